/**
 * What the engine can do by now. Images that it cannot write are not drawn; control operations that it does not have are
 * left to QEMU on both images. A capability is switched on here when it arrives, once and for all.
 */

export interface Capabilities {
  /** Shared clusters are copied: images with snapshots, compressed clusters and backing files can be written. */
  readonly copyOnWrite: boolean;
  readonly backing: boolean;
  /** Snapshots are created, applied and deleted by this engine too. */
  readonly snapshots: boolean;
  readonly resize: boolean;
  readonly extendedL2: boolean;
  readonly dataFile: boolean;
}

export const CAPABILITIES: Capabilities = {
  copyOnWrite: true,
  backing: false,
  snapshots: true,
  resize: false,
  extendedL2: false,
  dataFile: false,
};
