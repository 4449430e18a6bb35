#!/bin/sh
# Runs a command in which programs for arm64 start as if they were this machine's: emulate.sh QEMU ROOT|- COMMAND...
# Started through: unshare --user --map-root-user --mount --pid --fork emulate.sh ...
# The kernel's list of binary formats is mounted anew in a user namespace of its own (Linux 6.7), so that nothing is
# registered for anybody else. F: the emulator is opened now and so is at hand in a root without it.
set -e
qemu=$1
root=$2
shift 2
formats=/proc/sys/fs/binfmt_misc
mount -t binfmt_misc binfmt_misc "$formats"
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
printf '%s' ":arm64:M::$magic:$mask:$qemu:F" >"$formats/register"
if [ "$root" = - ]; then exec "$@"; fi
mkdir -p "$root/proc" "$root/dev"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec chroot "$root" "$@"
