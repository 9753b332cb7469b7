#!/bin/bash
# intel-shim.sh DIR: builds the shim of Intel's kernel driver, which no package has, from the source of the Mesa in DIR,
# within DIR; some minutes and 1.5 GB, of which only the shim stays. As root, after root.sh.
set -euo pipefail
DIR=$1
chroot "$DIR" bash -euo pipefail -c '
export DEBIAN_FRONTEND=noninteractive
apt-get install -y -q --no-install-recommends -t trixie-backports gcc g++ libc6-dev meson ninja-build python3-mako python3-yaml python3-packaging \
    pkgconf libdrm-dev libpciaccess-dev bison flex glslang-tools libexpat1-dev libelf-dev zlib1g-dev dpkg-dev
version=$(dpkg-query -W -f "\${source:Version}" mesa-vulkan-drivers)
rm -rf /tmp/mesa; mkdir /tmp/mesa; cd /tmp/mesa
# Not every mirror keeps the sources of backports; an older shim does as well where the driver takes it.
apt-get source -q "mesa=$version" || apt-get source -q mesa/trixie
cd mesa-*/
meson setup b -Dbuildtype=release -Dplatforms= -Dgallium-drivers= -Dvulkan-drivers= -Dtools=drm-shim,intel -Dllvm=disabled \
    -Dglx=disabled -Degl=disabled -Dgbm=disabled -Dopengl=false -Dgles1=disabled -Dgles2=disabled -Dxmlconfig=disabled \
    -Dshader-cache=disabled -Dzstd=disabled -Dlibunwind=disabled -Dvideo-codecs= -Dvulkan-layers= -Dintel-rt=disabled
ninja -C b -j "${JOBS:-$(nproc)}" src/intel/tools/libintel_noop_drm_shim.so
cp b/src/intel/tools/libintel_noop_drm_shim.so /compilers/
rm -rf /tmp/mesa'
