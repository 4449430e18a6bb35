// Exact decimals as people read them: thousands set apart, money to the smallest coin of its currency, and never 0 for what
// is not.

/** An exact decimal, rounded; what is not 0 is never shown as 0. */
function rounded(decimal: string, decimals: number): string {
  const value = Number(decimal);
  const text = value.toFixed(decimals);
  if (value !== 0 && Number(text) === 0) return value.toPrecision(1);
  const [whole = "0", fraction] = text.split(".");
  return fraction === undefined ? grouped(whole) : `${grouped(whole)}.${fraction}`;
}

/** An amount of a currency. */
export function moneyText(decimal: string, currency: string | undefined, otherwise = 2): string {
  return rounded(decimal, minorDigits(currency) ?? otherwise);
}

/** Digits with their thousands set apart. */
export function grouped(digits: string): string {
  return digits.replaceAll(/\B(?=(\d{3})+$)/g, ",");
}

const digitsOf = new Map<string, number | undefined>();

/** Decimals of the smallest coin of a currency (ISO 4217): none of a yen; undefined where it is no code. */
function minorDigits(currency: string | undefined): number | undefined {
  if (currency === undefined) return undefined;
  if (!digitsOf.has(currency)) {
    const style = /^[A-Z]{3}$/.test(currency) ? ({ style: "currency", currency } as const) : {};
    const { maximumFractionDigits } = new Intl.NumberFormat("en", style).resolvedOptions();
    digitsOf.set(currency, "style" in style ? maximumFractionDigits : undefined);
  }
  return digitsOf.get(currency);
}
