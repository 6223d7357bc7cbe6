# Inside of the virtual machine: fio on each kind of block device, results into $SHARED. Started by ublk.mjs.
# Arguments: rounds, seconds of each measurement, kinds of device.
set -Eeuo pipefail
rounds=$1
seconds=$2
shift 2
cd "$SCRATCH"
image=$SCRATCH/image.qcow2
make_image() {
  rm -f "$image"
  qemu-img create -q -f qcow2 -o preallocation=falloc "$image" 1G
}
make_image

# start KIND: sets `device` and `server` (empty when the kernel serves).
start() {
  device= server=
  : > out
  case $1 in
    corral | corral-*)
      local path=${1#corral}
      path=${path#-}
      # Not by a function: the number would be that of a shell.
      node "$CORRAL/dist/host/cli/main.js" attach ${path:+--data-path "$path"} "$image" > out & server=$!
      ;;
    null) node "$CORRAL/test/bench/ublk-null.mjs" $((1 << 30)) > out & server=$! ;;
    qemu-nbd)
      qemu-nbd -c /dev/nbd0 -f qcow2 --cache=writeback --aio=io_uring -t "$image" &
      device=/dev/nbd0
      for ((tries = 0; tries < 600; tries++)); do
        [ "$(cat /sys/block/nbd0/size)" = 0 ] || break
        sleep 0.05
      done
      # It has gone into the background by itself.
      server=$(pidof qemu-nbd)
      return
      ;;
    # The image's own bytes as a disk: as many, in the same place. What is written is the image's end; `stop` makes another one.
    loop) device=$(losetup --show -f "$image") && return ;;
  esac
  for ((tries = 0; tries < 600; tries++)); do
    read -r device < out && [ -b "$device" ] && return
    sleep 0.05
  done
  echo "no device of $1" >&2
  exit 1
}

stop() {
  case $1 in
    corral*) kill -TERM "$server" ;;
    null) kill -KILL "$server" ;;
    qemu-nbd) qemu-nbd -d /dev/nbd0 > /dev/null ;;
    loop)
      losetup -d "$device"
      make_image
      return
      ;;
  esac
  wait "$server" 2> /dev/null || true
  while [ "$1" != qemu-nbd ] && [ -e "$device" ]; do sleep 0.05; done
}

# Clock ticks of a process and of the whole machine.
ticks() {
  local used=0
  [ -z "$1" ] || used=$(awk '{ print $14 + $15 }' "/proc/$1/stat")
  awk -v used="$used" '/^cpu / { print used, $2 + $3 + $4 + $7 + $8 }' /proc/stat
}

# measure KIND NAME ROUND FIO-OPTION...
measure() {
  local kind=$1 name=$2 round=$3 before
  shift 3
  before=$(ticks "$server")
  fio --name="$name" --filename="$device" --direct=1 --ioengine=io_uring --size=1000m --time_based \
    --runtime="$seconds" --output-format=json --output="$SHARED/$kind.$name.$round.json" --norandommap \
    --randrepeat=1 "$@"
  echo "$before $(ticks "$server")" > "$SHARED/$kind.$name.$round.ticks"
}

for ((round = 1; round <= rounds; round++)); do
  for kind in "$@"; do
    start "$kind"
    # The compilers of JavaScript and WebAssembly are done then.
    fio --name=warm --filename="$device" --direct=1 --ioengine=io_uring --rw=randrw --bs=4k --iodepth=32 --size=1000m \
      --time_based --runtime=10 --norandommap --output=/dev/null
    measure "$kind" read-1 "$round" --rw=randread --bs=4k --iodepth=1
    measure "$kind" read-32 "$round" --rw=randread --bs=4k --iodepth=32
    measure "$kind" write-1 "$round" --rw=randwrite --bs=4k --iodepth=1
    measure "$kind" write-32 "$round" --rw=randwrite --bs=4k --iodepth=32
    measure "$kind" sequential-read "$round" --rw=read --bs=128k --iodepth=8
    measure "$kind" sequential-write "$round" --rw=write --bs=128k --iodepth=8
    stop "$kind"
    echo "round $round: $kind" >&2
  done
done

# Start to usable device, once Node has started.
node "$CORRAL/test/bench/ublk-start.mjs" "$image" 5 > "$SHARED/start.json"
