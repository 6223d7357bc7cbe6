/** Facts of an opened image; fixed address, see `Layout.info`. Names are byte strings in the page, valid while the host
 * handles the `block.finish` of Open. */
@unmanaged
export class ImageInfo {
  /** Header version, 2 or 3. */
  version: u32 = 0;
  /** log2 of the cluster size in bytes. */
  clusterBits: u32 = 0;
  /** Bytes of the virtual disk. */
  virtualSize: u64 = 0;
  /** Bytes of the image file when it was opened. */
  fileLength: u64 = 0;
  /** Feature bits as in the header; 0 for version 2. */
  incompatibleFeatures: u64 = 0;
  compatibleFeatures: u64 = 0;
  autoclearFeatures: u64 = 0;
  /** log2 of the refcount width in bits. */
  refcountOrder: u32 = 0;
  /** 0 zlib, 1 zstd. */
  compressionType: u32 = 0;
  /** 0 none, 1 AES-CBC, 2 LUKS. */
  cryptMethod: u32 = 0;
  /** Internal snapshots that the header claims. */
  snapshotCount: u32 = 0;
  /** Entries of the active L1 table. */
  l1Size: u32 = 0;
  /** Clusters of the refcount table. */
  refcountTableClusters: u32 = 0;
  l1TableOffset: u64 = 0;
  refcountTableOffset: u64 = 0;
  snapshotsOffset: u64 = 0;
  headerLength: u32 = 0;
  /** Bits: 1 there are persistent bitmaps; 2 there were some, and a writer that did not know them changed the image. */
  hasBitmaps: u32 = 0;
  /** Address and length in bytes of names; length 0 when the image has none. */
  backingFileAddress: u32 = 0;
  backingFileLength: u32 = 0;
  backingFormatAddress: u32 = 0;
  backingFormatLength: u32 = 0;
  dataFileAddress: u32 = 0;
  dataFileLength: u32 = 0;
  /** The feature name table's entries (48 bytes each) in the page. */
  featureNamesAddress: u32 = 0;
  featureNamesLength: u32 = 0;
  /** Where the LUKS header lies in the file, and how many bytes it has; length 0 when the image says nothing of one. */
  encryptionHeaderOffset: u64 = 0;
  encryptionHeaderLength: u64 = 0;
}
