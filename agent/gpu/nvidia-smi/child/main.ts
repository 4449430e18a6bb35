// A short-lived process around node-nvidia-smi: it runs `nvidia-smi -q -x` from PATH through a shell, has no timeout and
// cannot be cancelled, so the agent kills this process with its whole group after 5 s.
import nvidiaSmi from "node-nvidia-smi";
import { inventoryOf } from "../inventory-xml.ts";

nvidiaSmi((error, data) => {
  // Any word on stderr is an error to the package, as a string; the agent then asks the tool itself.
  process.send?.(error ? { problem: String(error) } : { gpus: inventoryOf(data) });
});
