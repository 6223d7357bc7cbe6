# A file system from nothing: made, filled and left in an image that corral made, for others to read.
# usage: ext4-from-corral.sh IMAGE ARCHIVE CHECKSUMS
. "$CORRAL/test/vm/guest/common.bash"
image=$SCRATCH/image.qcow2
folder=/run/files

cp "$1" "$image"
attach "$image"
mkfs.ext4 -q "$device"
mkdir -p $folder
mount "$device" $folder
rmdir $folder/lost+found
tar -C $folder -xf "$2"
say "filled"
forget_caches
verify_checksums $folder "$3"

umount $folder
fsck.ext4 -fn "$device"
detach
cp "$image" "$1.after"
