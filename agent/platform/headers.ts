// Headers an operator writes, for gRPC metadata and HTTP alike (RFC 9110, 5.1 and 5.5): a name or value that no request
// could carry is refused where it is written, not at each send.
import { z } from "zod";

const NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}$/;
const VALUE = /^[\t\x20-\x7e]*$/;

/** Headers by name. */
export const headerTexts = z.record(z.string(), z.string()).superRefine((headers, context) => {
  for (const [name, value] of Object.entries(headers)) {
    if (!NAME.test(name) || /-bin$/i.test(name)) {
      const hint = "letters, digits and dashes; names that end in -bin are for bytes";
      context.addIssue({
        code: "custom",
        path: [name],
        message: "a header with a name that can be sent",
        params: { hint },
      });
    } else if (!VALUE.test(value)) {
      const hint = "percent-encode what is not ASCII, or keep it in a file (`headersFile`, `bearerFile`)";
      context.addIssue({
        code: "custom",
        path: [name],
        message: "printable ASCII on one line",
        params: { hint },
      });
    }
  }
});
