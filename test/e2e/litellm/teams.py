# Keys of callers without a database, for `general_settings.custom_auth: teams.authorise`. Team a has a budget and what it
# spent before, team c one that it is over.
from fastapi import HTTPException
from litellm.proxy._types import UserAPIKeyAuth

CALLERS = {
    "sk-a": ("team-a", "ann"),
    "sk-b": ("team-b", "bob"),
    "sk-c": ("team-c", "cia"),
    "sk-none": (None, None),
}
BUDGETS = {
    "team-a": {"team_max_budget": 25.0, "team_spend": 3.5},
    "team-c": {"team_max_budget": 1.0, "team_spend": 1.25},
}


async def authorise(request, api_key):
    if api_key not in CALLERS:
        raise HTTPException(status_code=401, detail="no such key")
    team, user = CALLERS[api_key]
    budget = BUDGETS.get(team, {})
    return UserAPIKeyAuth(api_key=api_key, team_id=team, team_alias=team, user_id=user, **budget)
