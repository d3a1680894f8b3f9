/** A small writer of plots as SVG: bars, stacked bars, dots on a logarithmic axis, points with a line. */

const width = 800;
const labelWidth = 260;
const rightMargin = 150;
const rowHeight = 26;
const barHeight = 16;
const top = 58;
const axisHeight = 44;
const ink = '#1f2937';
const faint = '#6b7280';
const grid = '#e5e7eb';

/** Colours that can be told apart without seeing red from green, in the order they are given out. */
export const palette = [
  '#cbd5e1',
  '#0072b2',
  '#56b4e9',
  '#009e73',
  '#e69f00',
  '#d55e00',
  '#cc79a7',
  '#5b3a8c',
  '#8c564b',
] as const;

type Titles = {
  readonly title: string;
  /** What the horizontal axis shows, with its unit. */
  readonly axis: string;
};

/** One bar or dot. */
export type PlotRow = {
  readonly label: string;
  readonly value: number;
  /** What stands beside it. */
  readonly text: string;
  readonly colour: string;
};

const plotLeft = labelWidth + 10;
const plotRight = width - rightMargin;

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

function at(value: number): string {
  return String(Math.round(value * 100) / 100);
}

function label(
  x: number,
  y: number,
  content: string,
  { anchor = 'start', size = 13, fill = ink, weight = 'normal' } = {},
): string {
  const style = `font-size="${size}" fill="${fill}" text-anchor="${anchor}" font-weight="${weight}"`;
  return `<text x="${at(x)}" y="${at(y)}" ${style}>${escaped(content)}</text>`;
}

function rectangle(x: number, y: number, w: number, h: number, fill: string): string {
  return `<rect x="${at(x)}" y="${at(y)}" width="${at(w)}" height="${at(h)}" fill="${fill}"/>`;
}

function line(x1: number, y1: number, x2: number, y2: number, stroke: string, strokeWidth = 1): string {
  const ends = `x1="${at(x1)}" y1="${at(y1)}" x2="${at(x2)}" y2="${at(y2)}"`;
  return `<line ${ends} stroke="${stroke}" stroke-width="${strokeWidth}"/>`;
}

function picture(height: number, title: string, content: readonly string[]): string {
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${at(height)}" width="${width}" height="${at(height)}" role="img" font-family="DejaVu Sans, Helvetica, Arial, sans-serif">`,
    `<title>${escaped(title)}</title>`,
    rectangle(0, 0, width, height, '#ffffff'),
    label(20, 28, title, { size: 16, weight: 'bold' }),
    ...content,
    '</svg>',
  ].join('\n')}\n`;
}

/** A round number at or above `value / 5`, so that four to six steps span the axis. */
export function axisStep(value: number): number {
  const raw = value / 5;
  const power = 10 ** Math.floor(Math.log10(raw));
  const factor = [1, 2, 2.5, 5, 10].find((candidate) => candidate * power >= raw) ?? 10;
  return factor * power;
}

function ticksUpTo(max: number): readonly number[] {
  const step = axisStep(max);
  return Array.from({ length: Math.floor(max / step + 1e-9) + 1 }, (_, index) => index * step);
}

const inTicks = new Intl.NumberFormat('en-US', { maximumFractionDigits: 3 });

/** The vertical lines of an axis with their numbers, and its name below. */
function axis(
  ticks: readonly number[],
  x: (value: number) => number,
  bottom: number,
  name: string,
): string[] {
  return [
    ...ticks.flatMap((tick) => [
      line(x(tick), top - 8, x(tick), bottom, grid),
      label(x(tick), bottom + 16, inTicks.format(tick), { anchor: 'middle', size: 11, fill: faint }),
    ]),
    label((plotLeft + plotRight) / 2, bottom + 36, name, { anchor: 'middle', size: 12, fill: faint }),
  ];
}

function rowLabels(rows: readonly { readonly label: string }[]): string[] {
  return rows.map((row, index) =>
    label(labelWidth, top + index * rowHeight + barHeight - 3, row.label, { anchor: 'end' }),
  );
}

/** Horizontal bars from 0. */
export function barPlot(titles: Titles, rows: readonly PlotRow[]): string {
  const max = Math.max(...rows.map(({ value }) => value));
  const x = (value: number): number => plotLeft + (value / max) * (plotRight - plotLeft);
  const bottom = top + rows.length * rowHeight;
  const bars = rows.flatMap(({ value, text, colour }, index) => {
    const y = top + index * rowHeight;
    const length = Math.max(1, x(value) - plotLeft);
    return [
      rectangle(plotLeft, y, length, barHeight, colour),
      label(plotLeft + length + 6, y + barHeight - 3, text),
    ];
  });
  const content = [...axis(ticksUpTo(max), x, bottom, titles.axis), ...rowLabels(rows), ...bars];
  return picture(bottom + axisHeight, titles.title, content);
}

/** Dots on a logarithmic axis; values have to be above 0. */
export function dotPlot(titles: Titles, rows: readonly PlotRow[]): string {
  const powers = rows.map(({ value }) => Math.log10(value));
  const [low, high] = [Math.floor(Math.min(...powers)), Math.ceil(Math.max(...powers))];
  const x = (value: number): number =>
    plotLeft + ((Math.log10(value) - low) / Math.max(1, high - low)) * (plotRight - plotLeft);
  const ticks = Array.from({ length: high - low + 1 }, (_, index) => 10 ** (low + index));
  const bottom = top + rows.length * rowHeight;
  const dots = rows.flatMap(({ value, text, colour }, index) => {
    const y = top + index * rowHeight + barHeight / 2;
    return [
      line(plotLeft, y, x(value), y, grid),
      `<circle cx="${at(x(value))}" cy="${at(y)}" r="6" fill="${colour}"/>`,
      label(x(value) + 12, y + 5, text),
    ];
  });
  const content = [...axis(ticks, x, bottom, titles.axis), ...rowLabels(rows), ...dots];
  return picture(bottom + axisHeight, titles.title, content);
}

export type StackedRow = { readonly label: string; readonly parts: readonly number[]; readonly text: string };

/** Bars made of parts, the same parts in each, named in a legend below. */
export function stackedPlot(titles: Titles, names: readonly string[], rows: readonly StackedRow[]): string {
  const totals = rows.map(({ parts }) => parts.reduce((sum, part) => sum + part, 0));
  const max = Math.max(...totals);
  const x = (value: number): number => plotLeft + (value / max) * (plotRight - plotLeft);
  const colour = (index: number): string => palette[index % palette.length] ?? ink;
  const bottom = top + rows.length * rowHeight;
  const bars = rows.flatMap(({ parts, text }, index) => {
    const y = top + index * rowHeight;
    let from = 0;
    const pieces = parts.map((part, piece) => {
      const start = x(from);
      from += part;
      // A hair of white keeps neighbours apart.
      return rectangle(start, y, Math.max(0, x(from) - start - 0.75), barHeight, colour(piece));
    });
    return [...pieces, label(x(from) + 6, y + barHeight - 3, text)];
  });
  const perLine = 5;
  const legendTop = bottom + axisHeight + 22;
  const legend = names.flatMap((name, index) => {
    const left = 30 + (index % perLine) * ((width - 40) / perLine);
    const y = legendTop + Math.floor(index / perLine) * 22;
    return [rectangle(left, y - 11, 12, 12, colour(index)), label(left + 18, y, name, { size: 12 })];
  });
  const height = legendTop + Math.ceil(names.length / perLine) * 22;
  const content = [...axis(ticksUpTo(max), x, bottom, titles.axis), ...rowLabels(rows), ...bars, ...legend];
  return picture(height, titles.title, content);
}

export type LineOnPoints = {
  /** Points with x beyond this belong to the line; those before are drawn faint. */
  readonly from: number;
  readonly slope: number;
  readonly intercept: number;
  readonly text: string;
};

/** Points over two axes that begin at 0, with a straight line through those it was fitted to. */
export function pointPlot(
  titles: Titles & { readonly vertical: string },
  points: readonly (readonly [x: number, y: number])[],
  fit: LineOnPoints,
): string {
  const [left, right, floor] = [80, width - 40, 320];
  const maxX = Math.max(...points.map(([x]) => x));
  const maxY = 1.15 * Math.max(...points.map(([, y]) => y));
  const x = (value: number): number => left + (value / maxX) * (right - left);
  const y = (value: number): number => floor - (value / maxY) * (floor - top);
  const horizontals = ticksUpTo(maxY).flatMap((tick) => [
    line(left, y(tick), right, y(tick), grid),
    label(left - 8, y(tick) + 4, inTicks.format(tick), { anchor: 'end', size: 11, fill: faint }),
  ]);
  const verticals = ticksUpTo(maxX).map((tick) =>
    label(x(tick), floor + 18, inTicks.format(tick), { anchor: 'middle', size: 11, fill: faint }),
  );
  const dots = points.map(([px, py]) => {
    const fill = px < fit.from ? '#cbd5e1' : '#0072b2';
    return `<circle cx="${at(x(px))}" cy="${at(y(py))}" r="3" fill="${fill}"/>`;
  });
  const fitted = (value: number): number => y(fit.intercept + fit.slope * value);
  return picture(floor + 52, titles.title, [
    ...horizontals,
    ...verticals,
    label((left + right) / 2, floor + 40, titles.axis, { anchor: 'middle', size: 12, fill: faint }),
    label(left, top - 10, titles.vertical, { size: 12, fill: faint }),
    ...dots,
    line(x(fit.from), fitted(fit.from), x(maxX), fitted(maxX), '#d55e00', 2),
    label(right, floor - 14, fit.text, { anchor: 'end' }),
  ]);
}
