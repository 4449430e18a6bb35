declare module "parse-prometheus-text-format" {
  /** Families of a page in the text format 0.0.4. */
  export default function parsePrometheusTextFormat(text: string): readonly { name: string; type: string }[];
}
