/** The library in a browser: everything portable, and images in files of a page, of the private file system and of servers. */

export * from '../host/index.js';
export { BlobFile, type BlobFileOptions } from './blob-file.js';
export type { MessageEndpoint } from './calls.js';
export { BrowserEngine, type EngineOptions } from './client.js';
export { CodecPool, type CodecPoolOptions } from './codec-pool.js';
export { serveCodec } from './codec-worker.js';
export { type ConvertFileOptions, exportRaw } from './convert-file.js';
export { loadCore } from './core.js';
export {
  type AllowBacking,
  directoryGate,
  filesGate,
  type NamedAddress,
  sourcesGate,
  urlGate,
} from './gates.js';
export {
  type BrowserOpenOptions,
  createOpfs,
  openBlob,
  openImage,
  openOpfs,
  openUrl,
  type UrlOptions,
} from './open.js';
export { OpfsFile, type OpfsFileOptions, type SyncAccessFile, type SyncAccessHandle } from './opfs-file.js';
export type {
  CommitRequest,
  ConvertRequest,
  RemoteCreateOptions,
  RemoteExtent,
  RemoteHttpOptions,
  RemoteInspectOptions,
  RemoteLayer,
  RemoteOpenOptions,
  Surroundings,
} from './protocol.js';
export { RemoteImage } from './remote-image.js';
export { openSource, type Source, type SourceOptions } from './source.js';
export { type ServeOptions, serveEngine } from './worker.js';
