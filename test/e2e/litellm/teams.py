# Keys of three callers without a database, for `general_settings.custom_auth: teams.authorise`.
from fastapi import HTTPException
from litellm.proxy._types import UserAPIKeyAuth

CALLERS = {"sk-a": ("team-a", "ann"), "sk-b": ("team-b", "bob"), "sk-none": (None, None)}


async def authorise(request, api_key):
    if api_key not in CALLERS:
        raise HTTPException(status_code=401, detail="no such key")
    team, user = CALLERS[api_key]
    return UserAPIKeyAuth(api_key=api_key, team_id=team, team_alias=team, user_id=user)
