# Many devices of one process are written and read at the same time, and each has what was written to it.
# usage: together.sh COUNT    (the driver gives 64, unless it is loaded with more)
. "$CORRAL/test/vm/guest/common.bash"
cd "$SCRATCH"
images=()
for ((number = 0; number < $1; number++)); do images+=("image$number.qcow2"); done
corral create image0.qcow2 16M
for image in "${images[@]:1}"; do cp image0.qcow2 "$image"; done

attach --queue-depth 16 --cache-size 1M "${images[@]}"
for ((tries = 0; tries < 4000 && $(wc -l < "$corral_output") < $1; tries++)); do sleep 0.1; done
mapfile -t devices < "$corral_output"
[ ${#devices[@]} = "$1" ] || fail "${#devices[@]} devices are served: $(cat "$corral_output.err")"
say "$1 devices: $(ls "/proc/$server/task" | wc -l) threads, $(ls "/proc/$server/fd" | wc -l) descriptors," \
  "$(awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$server/status") MiB"

# What a device is given begins with its name.
head -c 1M /dev/urandom > noise
content() {
  { echo "$1"; cat noise; } | head -c 1M
}
write_all() {
  local device writers=()
  for device in "$@"; do
    content "$device" | dd of="$device" bs=64k seek=16 iflag=fullblock oflag=direct conv=notrunc,fsync status=none &
    writers+=($!)
  done
  wait "${writers[@]}"
}
write_all "${devices[@]}"
write_all "${devices[@]}"
for device in "${devices[@]}"; do
  dd if="$device" bs=64k skip=16 count=16 iflag=direct status=none | cmp - <(content "$device") || fail "$device has something else"
done
say "each has its own"
kill -TERM "$server"
server_ends_well 300
for number in "${!images[@]}"; do
  qemu-img check -q "image$number.qcow2"
  qemu-img convert -O raw "image$number.qcow2" part.raw
  cmp --bytes=1M --ignore-initial=1M:0 part.raw <(content "${devices[number]}") || fail "image$number.qcow2 has something else"
done
