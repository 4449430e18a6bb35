// Energy at the facility's meter, always a model: node energy x PUE where the node can be measured, else GPU energy x host
// overhead x PUE. Nothing configured, no value (METERING.md 1: not known is never 0).

/** Factors of the site, from its configuration. */
export interface FacilityFactors {
  /** Power usage effectiveness, 1 or more. */
  readonly pue?: number | undefined;
  /** Node energy per GPU energy, 1 or more: 8 x H100 are about 76 % of their node (arXiv 2506.14551). */
  readonly hostOverhead?: number | undefined;
}

/** Joules at the facility for joules of one stretch of time; undefined where they cannot be modelled. */
export function facilityJoules(
  measured: { readonly nodeJoules?: number; readonly gpuJoules?: number },
  { pue, hostOverhead }: FacilityFactors,
): number | undefined {
  if (pue === undefined) return undefined;
  if (measured.nodeJoules !== undefined) return measured.nodeJoules * pue;
  if (measured.gpuJoules === undefined || hostOverhead === undefined) return undefined;
  return measured.gpuJoules * hostOverhead * pue;
}
