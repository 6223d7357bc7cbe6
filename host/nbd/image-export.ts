/** An open image as something that the NBD server can serve. */
import type { Image } from '../image.js';
import type { NbdExport } from './export.js';

/**
 * Makes an export of an image. The image stays the caller's: close the server first, then the image.
 *
 * @param options.name what clients may call it besides the empty name; usually the image's file name.
 */
export function exportImage(image: Image, options: { name: string }): NbdExport {
  return {
    name: options.name,
    size: image.size,
    readOnly: image.readOnly,
    preferredBlockSize: image.info.clusterSize,
    read: (offset, target) => image.read(offset, target),
    write: (offset, source, { durable }) => image.write(offset, source, { durable }),
    writeZeroes: (offset, length, options) => image.writeZeroes(offset, length, options),
    discard: (offset, length) => image.discard(offset, length),
    flush: () => image.flush(),
  };
}
