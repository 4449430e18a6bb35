#!/bin/sh
# Boots the minimal system in folder $1 as init of new namespaces; with the program's folder $2, if given, at /opt/tokenwatt.
# Started through: unshare --fork --pid --mount --uts --ipc --cgroup --net boot.sh ROOT [PROGRAM]
set -e
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
if [ -n "${2-}" ]; then
  mount --bind "$2" "$root/opt/tokenwatt"
  mount -o remount,bind,ro "$root/opt/tokenwatt"
fi
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do
  touch "$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir -p "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
exec env -i container=private PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" \
  /lib/systemd/systemd --log-target=console --show-status=false
