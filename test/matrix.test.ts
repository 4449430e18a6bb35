// The inverse that fits rest on, against its own definition: times the matrix it is the unit matrix.
import fc from "fast-check";
import { expect, test } from "vitest";
import { inverted } from "../agent/matrix.ts";

const tenths = fc.integer({ min: -50, max: 50 }).map((tenth) => tenth / 10);

/** Sums of products of `size` inputs, with a little on the diagonal, as a fit has them. */
const products = fc
  .integer({ min: 1, max: 6 })
  .chain((size) =>
    fc.array(fc.array(tenths, { minLength: size, maxLength: size }), { minLength: 1, maxLength: 12 }),
  )
  .map((rows) => {
    const size = (rows[0] as number[]).length;
    return Array.from({ length: size }, (_, row) =>
      Array.from({ length: size }, (_, column) =>
        rows.reduce(
          (sum, one) => sum + (one[row] as number) * (one[column] as number),
          row === column ? 1 : 0,
        ),
      ),
    );
  });

test("an inverse times its matrix is the unit matrix, and the matrix stays", () => {
  fc.assert(
    fc.property(products, (matrix) => {
      const before = structuredClone(matrix);
      const inverse = inverted(matrix);
      expect(matrix).toEqual(before);
      for (const [row, line] of inverse.entries())
        for (let column = 0; column < matrix.length; column++)
          expect(
            line.reduce((sum, value, at) => sum + value * (matrix[at]?.[column] ?? Number.NaN), 0),
          ).toBeCloseTo(row === column ? 1 : 0, 6);
    }),
  );
});

test("a first entry of 0 is no end: the lines change places", () => {
  expect(
    inverted([
      [0, 2],
      [4, 0],
    ]),
  ).toEqual([
    [0, 0.25],
    [0.5, 0],
  ]);
});
