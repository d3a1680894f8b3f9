import assert from 'node:assert/strict';
import { test } from 'node:test';
import { axisStep, barPlot, dotPlot, stackedPlot } from './svg-plot.ts';

const titles = { title: 'a < b & c', axis: 'ms' };

test('an axis has four to six round steps', () => {
  for (const [max, step] of [
    [100, 20],
    [1, 0.2],
    [413, 100],
    [7, 2],
    [11, 2.5],
  ] as const)
    assert.equal(axisStep(max), step, `up to ${max}`);
});

test('text is escaped wherever it comes from', () => {
  const row = { label: '<script>', value: 1, text: 'x & y', colour: '#000000' };
  const svg = barPlot(titles, [row]);
  assert.doesNotMatch(svg, /<script>/);
  assert.match(svg, /a &lt; b &amp; c/);
  assert.match(svg, /x &amp; y/);
});

test('bars are as long as their values, dots stand at their logarithms', () => {
  const rows = [100, 10].map((value) => ({ label: '', value, text: '', colour: '#123456' }));
  const lengths = [...barPlot(titles, rows).matchAll(/width="([\d.]+)" height="16" fill="#123456"/g)];
  assert.deepEqual(
    lengths.map(([, length]) => Number(length)),
    [380, 38],
  );
  const dots = [...dotPlot(titles, rows).matchAll(/cx="([\d.]+)"/g)].map(([, x]) => Number(x));
  assert.deepEqual(dots, [650, 270]);
});

test('a stacked bar ends where the sum of its parts does', () => {
  const rows = [
    { label: 'a', parts: [1, 2, 7], text: '' },
    { label: 'b', parts: [1, 0, 4], text: '' },
  ];
  const svg = stackedPlot(titles, ['x', 'y', 'z'], rows);
  const pieces = [...svg.matchAll(/x="([\d.]+)" y="\d+" width="([\d.]+)" height="16"/g)];
  assert.equal(pieces.length, 6);
  const ends = pieces.map(([, x, length]) => Number(x) + Number(length) + 0.75);
  assert.equal(ends[2], 650);
  assert.equal(ends[5], 460);
});
