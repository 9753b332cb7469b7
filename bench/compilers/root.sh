#!/bin/bash
# root.sh DIR: a small Debian in DIR with a newer Mesa and its shims of kernel drivers, for run.mjs; about a minute and
# 700 MB, as root. It is Debian 13 with backports, from the mirror and with the settings of this machine's own apt; nothing
# of the machine but the package debootstrap changes.
set -euo pipefail
DIR=$1
command -v debootstrap > /dev/null || { apt-get update -q; apt-get install -y -q debootstrap; }
mirror=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources 2> /dev/null || true)
[ -n "$mirror" ] || mirror=$(awk '$1 == "deb" {print $2; exit}' /etc/apt/sources.list)
[ -x "$DIR/usr/bin/apt-get" ] || debootstrap --variant=minbase --include=ca-certificates trixie "$DIR" "$mirror"
apt-config dump Acquire > "$DIR/etc/apt/apt.conf.d/90acquire"
cp /etc/resolv.conf "$DIR/etc/resolv.conf" 2> /dev/null || true
for kind in deb deb-src; do
    printf "$kind %s trixie main\n$kind %s trixie-backports main\n" "$mirror" "$mirror"
done > "$DIR/etc/apt/sources.list"
chroot "$DIR" apt-get update -q
DEBIAN_FRONTEND=noninteractive chroot "$DIR" apt-get install -y -q --no-install-recommends -t trixie-backports \
    libvulkan1 mesa-vulkan-drivers mesa-drm-shim
mkdir -p "$DIR/compilers"
