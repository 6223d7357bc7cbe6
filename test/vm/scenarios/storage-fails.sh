# The storage below an image is full, or breaks: the guest sees it at once, and works on when there is room, or the storage is
# back; nothing that was written before is lost.
. "$CORRAL/test/vm/guest/common.bash"
cd "$SCRATCH"
printf '%s\n' 'I/O error' 'critical space allocation error' > /run/expected-messages
modprobe loop
modprobe dm_mod

# writes MEBIBYTE COUNT: whether so many MiB of noise can be written from there on.
writes() {
  dd if=noise of="$device" bs=64k seek=$(($1 * 16)) count=$(($2 * 16)) oflag=direct conv=notrunc status=none 2> /run/dd.log
}
# holds MEBIBYTE COUNT: they are there.
holds() {
  dd if="$device" bs=64k skip=$(($1 * 16)) count=$(($2 * 16)) iflag=direct status=none 2> /run/dd.log |
    cmp - <(head -c "$2M" noise)
}
# The server has told of it, ends well, and QEMU finds nothing wrong.
judge() {
  grep -qiE "$1" "$corral_output.err" || fail "the server does not say '$1': $(cat "$corral_output.err")"
  cp "$corral_output.err" /run/told
  : > "$corral_output.err"
  kill -TERM "$server"
  server_ends_well
  say "$(wc -l < /run/told) lines: $(head -n 1 /run/told)"
  qemu-img check "$2"
}
head -c 32M /dev/urandom > noise

mkdir small
mount -t tmpfs -o size=24m small small
corral create small/image.qcow2 256M
attach small/image.qcow2
writes 0 8 || fail "there is room for 8 MiB: $(cat /run/dd.log)"
! writes 16 32 || fail "32 MiB went into 24"
grep -qE 'No space left|Input/output' /run/dd.log || fail "$(cat /run/dd.log)"
say "full: $(tail -n 1 /run/dd.log)"
holds 0 8
# What has its clusters still takes writes; a discard makes room, as soon as it is durable.
writes 4 2 || fail "what is allocated cannot be written: $(cat /run/dd.log)"
writes 0 8
blkdiscard --offset 16M --length 32M "$device"
sync "$device"
writes 100 8 || fail "a discard made no room: $(cat /run/dd.log)"
mount -o remount,size=200m small
writes 120 32 || fail "there is room again: $(cat /run/dd.log)"
holds 0 8 && holds 100 8 && holds 120 32 || fail "something was lost"
judge 'space' small/image.qcow2
umount small

# A disk of which the part behind 4 MiB breaks, then all of it; the image is the disk itself.
truncate -s 96M disk
disk=$(losetup --show -f disk)
sectors=$(blockdev --getsz "$disk")
good="0 $sectors linear $disk 0"
table() {
  dmsetup suspend --noflush broken
  printf '%s\n' "$@" | dmsetup load broken
  dmsetup resume broken
}
dmsetup create broken --table "$good"
node=/dev/mapper/broken
[ -b $node ] || { mkdir -p /dev/mapper && mknod $node b $(dmsetup info -c --noheadings --separator ' ' -o major,minor broken); }
qemu-img create -q -f qcow2 $node 64M
# Around the page cache, which would take the writes and tell of it later.
attach --cache none $node
writes 0 8 || fail "$(cat /run/dd.log)"
sync "$device"
table "0 8192 linear $disk 0" "8192 $((sectors - 8192)) error"
! writes 20 4 || fail "a broken disk took a write"
! dd if="$device" of=/dev/null bs=64k skip=$((6 * 16)) count=16 iflag=direct status=none 2> /run/dd.log || fail "a broken disk was read"
grep -q 'Input/output' /run/dd.log || fail "$(cat /run/dd.log)"
holds 0 2 || fail "the good part cannot be read"
table "0 $sectors error"
! writes 30 1 || fail "a broken disk took a write"
table "$good"
holds 0 8 || fail "something was lost"
writes 20 4 && writes 30 8 || fail "the disk is back: $(cat /run/dd.log)"
holds 20 4 && holds 30 8 && holds 0 8 || fail "something was lost"
judge 'Input/output|EIO|I/O error' $node
dmsetup remove broken
losetup -d "$disk"
