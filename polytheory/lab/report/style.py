"""The style sheet: light, dark, paper and phone. Line colours are Okabe and Ito's, which every eye can tell apart."""

CSS = """
:root { --bg:#ffffff; --ink:#1b1f24; --soft:#57606a; --rule:#d8dee4; --card:#f6f8fa; --link:#0a58b8;
  --good:#116329; --bad:#a40e26; --c0:#0072b2; --c1:#c04a00; --c2:#00785a; --c3:#9c4a7d; --level:#1b1f24; }
@media (prefers-color-scheme: dark) { :root { --bg:#12161c; --ink:#e6edf3; --soft:#a5b0bc; --rule:#343c46;
  --card:#1b222b; --link:#7ab8ff; --good:#6fd88b; --bad:#ff9492; --c0:#56b4e9; --c1:#f0913c; --c2:#3ccfa4;
  --c3:#e3a1c8; --level:#e6edf3; } }
@media print { :root { --bg:#fff; --ink:#000; --soft:#333; --rule:#bbb; --card:#fff; --link:#000; --good:#116329;
  --bad:#a40e26; --c0:#0072b2; --c1:#c04a00; --c2:#00785a; --c3:#9c4a7d; --level:#000; }
  body { font-size:10pt; max-width:none; } nav { display:none; } article, figure, tr { break-inside:avoid; }
  section.method { break-before:page; } details::details-content { content-visibility:visible; display:block; }
  * { print-color-adjust:exact; -webkit-print-color-adjust:exact; } }
* { box-sizing:border-box; }
html { -webkit-text-size-adjust:100%; }
body { margin:0 auto; padding:1.5rem 1rem 4rem; max-width:72rem; overflow-wrap:anywhere; background:var(--bg); color:var(--ink);
  font:1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size:1.9rem; line-height:1.2; margin:.2rem 0 .4rem; }
h2 { font-size:1.5rem; line-height:1.25; margin:0 0 .3rem; }
h3 { font-size:1.15rem; margin:2rem 0 .6rem; }
h4 { font-size:1rem; margin:0 0 .5rem; }
p { margin:.4rem 0 .8rem; max-width:46rem; }
a { color:var(--link); }
code { font:.92em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap:anywhere; }
.soft, figcaption, dt { color:var(--soft); }
.good { color:var(--good); font-weight:600; } .bad { color:var(--bad); font-weight:600; }
.scroll { overflow-x:auto; }
table { border-collapse:collapse; width:100%; font-variant-numeric:tabular-nums; }
th, td { padding:.4rem .7rem; text-align:right; border-bottom:1px solid var(--rule); white-space:nowrap; }
th { color:var(--soft); font-weight:600; font-size:.9rem; }
th:first-child, td:first-child { text-align:left; padding-left:0; }
section.method { margin-top:3rem; padding-top:1.5rem; border-top:3px solid var(--rule); }
article.demo { margin:1.2rem 0 2rem; padding:1rem 1.1rem; background:var(--card); border:1px solid var(--rule);
  border-radius:.6rem; }
dl.facts { display:grid; grid-template-columns:repeat(auto-fill, minmax(11rem, 1fr)); gap:.5rem 1.2rem; margin:.6rem 0 1.2rem; }
dl.facts div { min-width:0; } dl.facts div.wide { grid-column:1 / -1; }
dt { font-size:.82rem; } dd { margin:0; overflow-wrap:anywhere; }
.figures { display:grid; grid-template-columns:repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap:1.5rem 2rem; }
.figures.solo { max-width:34rem; }
figure { margin:0; min-width:0; }
figcaption { font-size:.86rem; margin-top:.5rem; }
svg { display:block; width:100%; height:auto; }
svg text { font-family:inherit; }
.axes text { fill:var(--soft); font-size:12.5px; }
.rule { stroke:var(--rule); stroke-width:1; } .axis { stroke:var(--soft); stroke-width:1; }
.line { fill:none; stroke-width:2.2; stroke-linejoin:round; stroke-linecap:round; } .dashed { stroke-dasharray:6 5; }
.broad { stroke-width:5.5; opacity:.45; }
.line.c0 { stroke:var(--c0); } .line.c1 { stroke:var(--c1); } .line.c2 { stroke:var(--c2); } .line.c3 { stroke:var(--c3); }
.band { opacity:.22; } .band.c0 { fill:var(--c0); } .band.c1 { fill:var(--c1); } .band.c2 { fill:var(--c2); }
.band.c3 { fill:var(--c3); }
.level { stroke:var(--level); stroke-width:1.5; stroke-dasharray:1.5 4; stroke-linecap:round; }
.cell { stroke:var(--card); stroke-width:1.5; }
ul.legend { display:flex; flex-wrap:wrap; gap:.2rem 1.2rem; list-style:none; margin:.4rem 0 0; padding:0; font-size:.86rem; }
ul.legend li { display:flex; align-items:center; gap:.45rem; } ul.legend svg { width:28px; flex:none; }
.bar { display:flex; align-items:center; gap:.6rem; font-size:.86rem; margin-top:.5rem; max-width:24rem; }
.bar i { flex:1; height:.7rem; border-radius:.35rem; }
ol.claims { list-style:none; margin:0; padding:0; }
ol.claims > li { padding:.9rem 0; border-bottom:1px solid var(--rule); break-inside:avoid; }
ol.claims p { margin:.1rem 0 .4rem; }
.badge { display:inline-block; padding:.02rem .55rem; border:1px solid currentColor; border-radius:1rem; font-size:.78rem;
  font-weight:600; margin-right:.5rem; white-space:nowrap; }
.rooms { display:grid; gap:.15rem; font-size:.9rem; font-variant-numeric:tabular-nums; }
details { margin-top:.35rem; font-size:.9rem; } summary { cursor:pointer; }
details ul { margin:.3rem 0; padding-left:1.2rem; }
dl.levels { display:grid; grid-template-columns:max-content 1fr; gap:.4rem .8rem; max-width:50rem; font-size:.92rem; }
dl.levels dd { color:var(--ink); }
footer { margin-top:3rem; font-size:.85rem; color:var(--soft); }
@media (max-width:36rem) { body { padding:1rem .8rem 3rem; } h1 { font-size:1.5rem; } h2 { font-size:1.25rem; }
  article.demo { padding:.8rem .7rem; }
  dl.levels { grid-template-columns:1fr; gap:.1rem; } dl.levels dd { margin-bottom:.5rem; }
  dl.facts { grid-template-columns:1fr 1fr; } .axes text { font-size:16px; } }
"""
