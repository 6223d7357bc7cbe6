/**
 * The external data file. It shares the simulated disk with the image, far behind it, so that a power cut chooses for the
 * sectors of both at once what survives; its length is where its last bytes lie.
 */

/** Where on the simulated disk the data file begins: no image is that long. */
export const DATA_FILE_START = 2 ** 52;

/** Where a piece of the simulated disk ends that belongs to the image; 0 when it belongs to the data file. */
export function imageEnd(offset: number, length: number): number {
  return offset >= DATA_FILE_START ? 0 : offset + length;
}
