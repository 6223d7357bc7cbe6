# A file system that somebody else made: read all of it, change a good part of it, and leave it in order.
# usage: ext4-from-qemu.sh IMAGE CHECKSUMS COPY  (COPY: the part of the tree that is copied, as usr or usr/share)
. "$CORRAL/test/vm/guest/common.bash"
image=$SCRATCH/image.qcow2
folder=/run/files

cp "$1" "$image"
attach "$image"
say "attached $device"
fsck.ext4 -fn "$device"
mkdir -p $folder
mount "$device" $folder
rm -rf $folder/lost+found
verify_checksums $folder "$2"

# The list says which files there must be afterwards, so that nobody has to take the device's word for it.
LC_ALL=C sort -k 2 "$2" > /run/all
awk 'NR % 3 == 0' /run/all | cut -c 67- > /run/deleted
cp -a "$folder/$3" $folder/copy
(cd $folder && xargs -d '\n' rm < /run/deleted)
{ awk 'NR % 3 != 0' /run/all; sed -n "s|  \./$3/|  ./copy/|p" /run/all; } > /run/expected
say "copied and deleted files"
fio --name=verified --filename=$folder/fio --size=64m --bsrange=4k-128k --rw=randwrite --end_fsync=1 \
  --ioengine=io_uring --iodepth=8 --verify=crc32c --minimal > /run/fio.log || fail "fio: $(cat /run/fio.log)"
(cd $folder && sha256sum ./fio) >> /run/expected
say "fio wrote and verified"
forget_caches
verify_checksums $folder /run/expected

umount $folder
fsck.ext4 -fn "$device"
kill -TERM "$server"
server_ends_well
cp /run/expected "$1.after.sha256"
cp "$image" "$1.after"
