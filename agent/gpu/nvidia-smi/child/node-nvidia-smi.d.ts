// node-nvidia-smi 1.0.0 has no types: it runs `nvidia-smi -q -x` and hands over what xml2js makes of it.
declare module "node-nvidia-smi" {
  export default function nvidiaSmi(callback: (error: unknown, data: unknown) => void): void;
}
