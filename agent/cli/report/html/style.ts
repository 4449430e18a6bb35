// How a report looks as a page: on screen light or dark as the reader's system is, on paper always light, no request for
// anything else. Marks carry their light colour themselves, so that a viewer without style sheets shows them too.
import { stateLooks, stateOrder } from "../../../platform/state-colours.ts";

/** The colour of one state on white, and the class that darkens it. */
export function stateFill(state: (typeof stateOrder)[number]): string {
  const { isHatched, light } = stateLooks[state];
  return isHatched ? `class="${state}" fill="url(#hatch)"` : `class="${state}" fill="${light}"`;
}

/** The style sheet of the page. */
export function styleSheet(): string {
  const dark = stateOrder
    .filter((state) => !stateLooks[state].isHatched)
    .map((state) => `.${state}{fill:${stateLooks[state].dark}}`)
    .join("");
  const hatched = stateLooks.unobserved;
  return `${page}
@media screen and (prefers-color-scheme: dark){${darkPage}${dark}.hatch{stroke:${hatched.dark}}.hatch-ground{fill:#2a2633}}
${print}`;
}

const page = `
:root{color-scheme:light dark}
*{box-sizing:border-box}
body{margin:0 auto;max-width:60rem;padding:2rem 1.25rem 3rem;background:#fff;color:#1b2127;
 font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .2rem}
h2{font-size:1.15rem;margin:2.2rem 0 .5rem;padding-top:.8rem;border-top:1px solid #d8dee4}
p{margin:.4rem 0}
.about,.note,figcaption{color:#56616c;font-size:.87rem}
.lead{font-size:1.05rem;margin:1rem 0}
.warning{border-left:4px solid #c27c00;padding:.3rem .8rem;margin:.8rem 0;background:#fdf6e8}
dl.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(15rem,42%),1fr));gap:.7rem;margin:1.2rem 0}
dl.figures div{border:1px solid #d8dee4;border-radius:.4rem;padding:.55rem .75rem;break-inside:avoid}
dl.figures dt{color:#56616c;font-size:.82rem}
dl.figures dd{margin:0;font-size:1.35rem;font-weight:600;font-variant-numeric:tabular-nums}
dl.figures dd small{display:block;font-size:.78rem;font-weight:400;color:#56616c}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .55rem;text-align:right;vertical-align:top;border-bottom:1px solid #e5e9ed}
th{font-weight:600;color:#56616c;font-size:.82rem;vertical-align:bottom}
th[scope=row],th.name{text-align:left}
th[scope=row]{color:inherit;font-size:inherit;font-weight:400;vertical-align:top;overflow-wrap:break-word;max-width:22rem;min-width:6.5rem}
td{white-space:nowrap}
thead th{border-bottom:1px solid #9aa5b0}
tr.total td,tr.total th{font-weight:600;border-top:1px solid #9aa5b0;border-bottom:none}
.unit{color:#56616c;font-size:.82em;font-weight:400}
figure{margin:.8rem 0}
svg{display:block;width:100%;height:auto}
svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif;fill:#56616c}
svg .grid{stroke:#e2e7ec}
svg .axis{stroke:#9aa5b0}
td svg{width:6rem;height:.8rem;display:inline-block;vertical-align:middle}
.bar{fill:#3c6e9f}
ul.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;padding:0;margin:.4rem 0;font-size:.85rem}
ul.legend svg,th svg{width:.8rem;height:.8rem;display:inline-block;vertical-align:-.08rem;margin-right:.35rem}
dl.method{font-size:.87rem}
dl.method dt{font-weight:600;margin-top:.5rem}
dl.method dd{margin:0;color:#3c4650}
footer{margin-top:2.5rem;border-top:1px solid #d8dee4;padding-top:.6rem}`;

const darkPage = `body{background:#14181d;color:#e4e9ee}h2,footer{border-color:#343c45}
.about,.note,figcaption,dl.figures dt,dl.figures dd small,th,.unit{color:#a3afbb}
dl.figures div{border-color:#343c45}th,td{border-color:#2a3139}thead th,tr.total td,tr.total th{border-color:#5d6873}
dl.method dd{color:#c3ccd5}.warning{background:#2b2415;border-color:#eeb13c}
svg text{fill:#a3afbb}svg .grid{stroke:#2a3139}svg .axis{stroke:#5d6873}.bar{fill:#6fa5d8}`;

const print = `@media print{
@page{size:A4;margin:14mm 12mm}
:root{color-scheme:light}
body{max-width:none;padding:0;font-size:10pt}
h2{margin-top:1.2rem;break-after:avoid}
dl.figures{grid-template-columns:repeat(3,1fr)}
figure,tr,dl.figures,.warning,ul.legend{break-inside:avoid}
thead{display:table-header-group}
.scroll{overflow:visible}
table{font-size:8.5pt}
th,td{padding:.2rem .35rem}
td svg{width:4.5rem}
th[scope=row]{min-width:0}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}`;
