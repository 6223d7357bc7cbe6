# An overlay over a compressed base, both made by qemu-img: read all of it, change a part, and leave both in order.
# usage: overlay.sh OVERLAY BASE CHECKSUMS  (OVERLAY names BASE relative to the folder that both are in)
. "$CORRAL/test/vm/guest/common.bash"
image=$SCRATCH/$(basename "$1")
base=$SCRATCH/$(basename "$2")
folder=/run/files

cp "$1" "$image"
cp "$2" "$base"
refuses 'backing file' "${corral_command[@]}" attach --no-backing "$image"
attach "$image"
fsck.ext4 -fn "$device"
mkdir -p $folder
mount "$device" $folder
rm -rf $folder/lost+found
verify_checksums $folder "$3"

LC_ALL=C sort -k 2 "$3" > /run/all
awk 'NR % 3 == 0' /run/all | cut -c 67- > /run/deleted
(cd $folder && xargs -d '\n' rm < /run/deleted)
awk 'NR % 3 != 0' /run/all > /run/expected
# Parts of old clusters: what is around them comes from the base.
while read -r name; do
  printf 'changed by the guest' 1<> "$folder/$name"
done < <(sed -n '1~9p' /run/expected | cut -c 67-)
head -c 20M /dev/urandom > $folder/random
checksums $folder > /run/expected
say "changed files"
forget_caches
verify_checksums $folder /run/expected

umount $folder
fsck.ext4 -fn "$device"
kill -TERM "$server"
server_ends_well
cmp "$2" "$base" || fail "the base has changed"
cp /run/expected "$1.after.sha256"
cp "$image" "$1.after"
rm "$base"
refuses 'backing file.*No such file' "${corral_command[@]}" attach "$image"
