// A kubelet's two APIs on unix sockets of their own, answering what they are told, with the field numbers of its protos.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Server, ServerCredentials } from "../../agent/platform/grpc.ts";
import { field, message } from "./grpc-peer.ts";

/** A pod as the fake tells it. */
export interface FakePod {
  readonly namespace: string;
  readonly name: string;
  readonly uid?: string;
  readonly address?: string;
  readonly hostNetwork?: boolean;
  readonly phase?: string;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly gpus?: readonly string[];
  /** Default: one named `main` that holds `gpus` and declares nothing. */
  readonly containers?: readonly FakeContainer[];
}

export interface FakeContainer {
  readonly name: string;
  readonly gpus?: readonly string[];
  readonly ports?: readonly { readonly port: number; readonly name?: string; readonly protocol?: string }[];
  readonly args?: readonly string[];
  /** Listed among the init containers; `restartPolicy` Always makes it a sidecar that stays. */
  readonly init?: true;
  readonly restartPolicy?: string;
  /** Its id at the runtime, of which each restart has another one. */
  readonly id?: string;
}

const containersOf = ({ containers, gpus = [] }: FakePod): readonly FakeContainer[] =>
  containers ?? [{ name: "main", gpus }];

/** A running fake; `pods` may be replaced at any time, `failing` makes it answer with an error. */
export interface FakeKubelet {
  readonly podsSocket: string;
  readonly podResourcesSocket: string;
  pods: readonly FakePod[];
  failing: boolean;
  /** Only pod-resources fails. */
  failingResources: boolean;
  close(): void;
}

/** Starts one; `packageName` is the one its Pods API has. */
export async function fakeKubelet(packageName = "v1alpha1"): Promise<FakeKubelet> {
  const folder = mkdtempSync(join(tmpdir(), "tokenwatt-kubelet-"));
  const servers: Server[] = [];
  const fake: FakeKubelet = {
    podsSocket: join(folder, "pods-api.sock"),
    podResourcesSocket: join(folder, "kubelet.sock"),
    pods: [],
    failing: false,
    failingResources: false,
    close: () => {
      for (const server of servers) server.forceShutdown();
      rmSync(folder, { recursive: true, force: true });
    },
  };
  const serve = async (socket: string, path: string, answer: () => Buffer): Promise<void> => {
    const server = new Server();
    servers.push(server);
    const bytes = (value: Buffer): Buffer => value;
    const handle = (_: unknown, callback: (error: unknown, value?: Buffer) => void): void =>
      fake.failing || (fake.failingResources && socket === fake.podResourcesSocket)
        ? callback({ code: 14, details: "kubelet restarts" })
        : callback(null, answer());
    server.register(path, handle as never, bytes, bytes, "unary");
    await new Promise<void>((resolve, reject) =>
      server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) =>
        error ? reject(error) : resolve(),
      ),
    );
  };
  await serve(fake.podsSocket, `/${packageName}.Pods/ListPods`, () => message(...fake.pods.map(podOf)));
  await serve(fake.podResourcesSocket, "/v1.PodResourcesLister/List", () =>
    message(...fake.pods.map(resourcesOf)),
  );
  return fake;
}

function podOf(pod: FakePod): Buffer {
  const annotations = Object.entries(pod.annotations ?? {}).map(([key, value]) =>
    field(12, message(field(1, key), field(2, value))),
  );
  const metadata = message(
    field(1, pod.name),
    field(2, "generated-name-"),
    field(3, pod.namespace),
    field(5, pod.uid ?? `uid-of-${pod.name}`),
    ...annotations,
  );
  const spec = message(
    ...containersOf(pod).map((container) => field(container.init === true ? 20 : 2, containerOf(container))),
    field(11, pod.hostNetwork === true ? 1 : 0),
  );
  const status = message(
    field(1, pod.phase ?? "Running"),
    field(5, "10.0.0.1"),
    field(6, pod.address ?? "127.0.0.1"),
    ...containersOf(pod).flatMap(({ id, init, name }) =>
      id === undefined ? [] : [field(init === true ? 10 : 8, statusOf(name, id))],
    ),
  );
  return field(1, message(field(1, metadata), field(2, spec), field(3, status)));
}

const statusOf = (name: string, id: string): Buffer =>
  message(field(1, name), field(5, 3), field(6, "registry.example.com/image"), field(8, id));

function containerOf({ args = [], name, ports = [], restartPolicy }: FakeContainer): Buffer {
  return message(
    field(1, name),
    field(2, "registry.example.com/image"),
    ...args.map((one) => field(4, one)),
    ...ports.map((one) =>
      field(6, message(field(1, one.name ?? ""), field(3, one.port), field(4, one.protocol ?? "TCP"))),
    ),
    field(9, message(field(1, "a-mount"))),
    ...(restartPolicy === undefined ? [] : [field(24, restartPolicy)]),
  );
}

/** As the kubelet lists them: init containers only where they stay (Kubernetes 1.29 on). */
function resourcesOf(pod: FakePod): Buffer {
  const containers = containersOf(pod).filter(
    ({ init, restartPolicy }) => init !== true || restartPolicy === "Always",
  );
  const told = containers.map(({ gpus = [], name }) => {
    const devices = message(field(1, "nvidia.com/gpu"), ...gpus.map((id) => field(2, id)));
    return field(3, message(field(1, name), ...(gpus.length === 0 ? [] : [field(2, devices)])));
  });
  return field(1, message(field(1, pod.name), field(2, pod.namespace), ...told));
}
