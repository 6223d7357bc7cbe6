/** Where a file goes that is written piece by piece: what this browser has, the best first. */

export type SinkKind = 'file' | 'storage' | 'memory';

/** Everything not written is zeros. */
export interface Sink {
  write(offset: number, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** The file is whole. */
  finish(): Promise<void>;
  /** Nothing of it is to be left. */
  abandon(): Promise<void>;
}

interface PickerWindow {
  showSaveFilePicker?(options: { suggestedName: string }): Promise<FileSystemFileHandle>;
}

/** Zeros that one part of a file in memory holds. */
const ZEROS = 2 ** 20;

export function sinkKind(): SinkKind {
  if ((globalThis as PickerWindow).showSaveFilePicker !== undefined) return 'file';
  const storage = globalThis.navigator?.storage as StorageManager | undefined;
  return storage?.getDirectory !== undefined && 'createWritable' in FileSystemFileHandle.prototype
    ? 'storage'
    : 'memory';
}

/** Undefined when the person in front of the page does not want it after all. Must be called from a click. */
export async function openSink(name: string, size: number): Promise<Sink | undefined> {
  switch (sinkKind()) {
    case 'file':
      return pickedSink(name, size);
    case 'storage':
      return storageSink(name, size);
    default:
      return memorySink(name, size);
  }
}

async function pickedSink(name: string, size: number): Promise<Sink | undefined> {
  try {
    const handle = await (globalThis as PickerWindow).showSaveFilePicker?.({ suggestedName: name });
    return handle === undefined ? undefined : await handleSink(handle, size, async () => {});
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') return undefined;
    throw error;
  }
}

/** A file in the origin's private storage; it stays until the next one is made, as a download may still read it. */
async function storageSink(name: string, size: number): Promise<Sink> {
  const root = await navigator.storage.getDirectory();
  const folder = await root.getDirectoryHandle('corral-inspector', { create: true });
  for await (const old of folder.keys()) await folder.removeEntry(old).catch(() => {});
  const handle = await folder.getFileHandle(`${crypto.randomUUID()}`, { create: true });
  return handleSink(handle, size, async () => download(await handle.getFile(), name));
}

async function handleSink(handle: FileSystemFileHandle, size: number, done: () => Promise<void>): Promise<Sink> {
  const stream = await handle.createWritable();
  await stream.truncate(size);
  return {
    write: (offset, bytes) => stream.write({ type: 'write', position: offset, data: bytes }),
    async finish() {
      await stream.close();
      await done();
    },
    abandon: () => stream.abort(),
  };
}

/** Parts of a Blob, which browsers keep on disk when they grow large. */
function memorySink(name: string, size: number): Sink {
  let blob = new Blob([]);
  const fill = (end: number): void => {
    while (blob.size < end) {
      const length = Math.min(ZEROS, end - blob.size);
      blob = new Blob([blob, new Uint8Array(length)]);
    }
  };
  return {
    async write(offset, bytes) {
      fill(offset);
      blob = new Blob([blob, bytes]);
    },
    async finish() {
      fill(size);
      download(blob, name);
    },
    async abandon() {
      blob = new Blob([]);
    },
  };
}

/** Saves a blob as a download does. */
export function download(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
