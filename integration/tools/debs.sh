# Recipes for install.sh: programs from the packages of Debian 12. They are unpacked and never installed: no service
# starts, and the machine stays as it is. Debian takes a version off its mirrors when a security update comes out, so a
# newer one is accepted: apt knows the signature over it, and the folder's name holds what was got.

# sources_of_debs are the packages of a tool, each as package=version:sha256.
sources_of_debs() {
  case "$1" in
  containers)
    version=1.6.20 # containerd's
    debs=(
      containerd=1.6.20~ds1-1+deb12u3:8669d264eeb0fcdb4a0b1ba436ab88ec5dafde4a66e1278ec279d830db4c2216
      runc=1.1.5+ds1-1+deb12u1:a00351f8c0318de0b424ecf5cd0fdb69880a89f3511cae4f6fff7de3e57881c5
      containernetworking-plugins=1.1.1+ds1-3+b5:4cac8143474d1249b19f7b0e80b8d0daaa6dfdaa8bd514bc468d38d4a108099f
      busybox-static=1:1.35.0-4+deb12u1+b1:3d3fdbe91d4660c873e14b092c213fe81c1da6362daa236eb25d0171eb108744
    )
    ;;
  promtool)
    version=2.42.0
    debs=(prometheus=2.42.0+ds-5+deb12u1:81d59a24fce84f7fbe97a45a4f2914b6a5881b5cd1db2a6a0e129e515e1a5f55)
    ;;
  buildah)
    version=1.28.2
    debs=(
      buildah=1.28.2+ds1-3+deb12u1+b3:d12d6017f6ba04d8e0f9c3327fc39375f866b05a731522be211057f6df63fbf5
      golang-github-containers-common=0.50.1+ds1-4:39d5c31902c4ce55bd419286946d0b291383169585f1b3509000f6bf57454181
      libassuan0=2.5.5-5:5912430927da16ccc831459679207fdbb9dfc5a206f2bab8d6f36d5a1ab53e25
      libdevmapper1.02.1=2:1.02.185-2:aaa78ca236055fedccf637eacf7bda02bf1980b2db668dccd202b04d0d2cfe04
      libgpgme11=1.18.0-3+b1:dc075584050dc5c8ac27563fc222e8c1ea71128a019a6d129d5823e47ac1e55e
    )
    ;;
  imagebase)
    version=12 # Debian's
    debs=(
      libc6=2.36-9+deb12u14:ba4f88f73dbc3ae9055f3c20f4523bfdbaf1ad13ff95e258924f77d20b4fbedf
      libtinfo6=6.4-4:072d908f38f51090ca28ca5afa3b46b2957dc61fe35094c0b851426859a49a51
      zlib1g=1:1.2.13.dfsg-1:d7dd1d1411fedf27f5e27650a6eff20ef294077b568f4c8c5e51466dc7c08ce4
      bash=5.2.15-2+b13:82130bb6a560cd2a7234d8018baf73f188f5dd56413d5aa0accc987b2197a6a1
      tini=0.19.0-1+b3:7d1947665fa40e55f218fefad773dc6de66458d0b39eaa292cdcadfc7c996632
    )
    ;;
  esac
  sum="${debs[*]}"
}

# need_apt makes sure that apt knows what Debian has. Packages of another release need another release's libraries.
need_apt() {
  local release
  release=$(sed -n 's/^\(ID\|VERSION_ID\)="\?\([^"]*\)"\?$/\2/p' /etc/os-release | LC_ALL=C sort | paste -sd' ')
  [ "$release" = "12 debian" ] || die "$tool comes from the packages of Debian 12: run this on Debian 12, or in a container of it"
  [[ $(apt-cache policy "${debs[0]%%=*}") =~ Candidate:\ [0-9] ]] || update_apt
}

update_apt() {
  say "apt-get update"
  apt-get update -q >"$work/apt.log" 2>&1 || { tail -5 "$work/apt.log" >&2; die "apt-get update failed: do it by hand, as root"; }
}

# get_deb downloads one package into $work/dl; apt checks it against the signed list of the archive.
get_deb() {
  (cd "$work/dl" && apt-get download -q -o Acquire::Retries=3 -o APT::Get::AllowUnauthenticated=false "$1") >"$work/apt.log" 2>&1
}

# pinned_deb PACKAGE=VERSION:SHA256 gets that file, or the archive's newer one, and adds a line to $work/got.
pinned_deb() {
  local pin=$1 package=${1%%=*} pinned=${1##*:} file got
  mkdir "$work/dl"
  if ! get_deb "${pin%:*}"; then
    update_apt
    get_deb "${pin%:*}" || get_deb "$package" || { tail -5 "$work/apt.log" >&2; die "$package can't be downloaded"; }
  fi
  file=$(echo "$work"/dl/*.deb)
  got=$(dpkg-deb -f "$file" Version):$(sha256sum "$file" | cut -c1-64)
  if [ "$package=$got" != "$pin" ]; then
    [ "${got%:*}" != "$(sed 's/^[^=]*=\(.*\):[^:]*$/\1/' <<<"$pin")" ] || die "$package ${got%:*} is not the file that was pinned ($pinned)"
    say "WARNING: Debian no longer has ${pin%:*}; taking its newer version, pin it: $package=$got"
  fi
  echo "$package=$got" >>"$work/got"
  dpkg-deb -x "$file" "$work/root"
  rm -r "$work/dl"
}

# make_debs unpacks all packages of a tool and keeps what is used of them. When Debian had newer ones, the folder that was
# asked for becomes a link to one that is named after what was got.
make_debs() {
  local deb newer
  need_apt
  mkdir "$work/root" "$work/out"
  say "downloading $tool from Debian: ${debs[*]%%=*}"
  for deb in "${debs[@]}"; do pinned_deb "$deb"; done
  "keep_$tool"
  can_start "$work/out"
  cp "$work/got" "$work/out/packages"
  [ "$(paste -sd' ' "$work/got")" != "$sum" ] || return 0
  newer="$cache/$tool-debian-$(key_of "$(paste -sd' ' "$work/got")")"
  [ -e "$newer" ] || mv -T "$work/out" "$newer"
  rm -rf "$work/out"
  ln -s "$(basename "$newer")" "$work/out"
}

# can_start refuses a folder with a program that lacks a library here: better now than in the middle of a test.
can_start() {
  local missing
  missing=$(find -L "$1" -type f -perm /111 -exec env "LD_LIBRARY_PATH=$1/lib" ldd {} + 2>/dev/null |
    sed -n 's/^\t*\(.*\) => not found$/\1/p' | sort -u) || true # a static program is an error to ldd
  [ -z "$missing" ] || die "$tool needs libraries that are not on this machine: $missing"
}

# containers: what runs pods on a node, and a shell for them.
keep_containers() {
  mkdir "$work/out/bin"
  mv "$work"/root/usr/bin/{containerd,containerd-shim-runc-v2,ctr} "$work/root/usr/sbin/runc" "$work/root/bin/busybox" "$work/out/bin/"
  mv "$work/root/usr/lib/cni" "$work/out/cni"
}

# promtool: the part of Prometheus that tests alerts.
keep_promtool() { mv "$work/root/usr/bin/promtool" "$work/out/"; }

# buildah: builds images as root, in a chroot, and pulls nothing. It wants a policy about signatures, which is given with each
# command that reads or writes an image.
keep_buildah() {
  mkdir "$work/out/bin" "$work/out/lib"
  mv "$work/root/usr/bin/buildah" "$work/out/lib/"
  mv "$work"/root/{usr/,}lib/x86_64-linux-gnu/*.so.* "$work/root/etc/containers/policy.json" "$work/out/lib/"
  cat >"$work/out/bin/buildah" <<'SH'
#!/bin/bash
lib=$(readlink -f "$0")
lib=${lib%/bin/buildah}/lib
export LD_LIBRARY_PATH="$lib" BUILDAH_ISOLATION="${BUILDAH_ISOLATION:-chroot}" STORAGE_DRIVER="${STORAGE_DRIVER:-vfs}"
args=() command=
for arg; do
  args+=("$arg")
  case "$command:$arg" in :build | :bud | :commit | :from | :pull | :push) command=$arg && args+=(--signature-policy "$lib/policy.json") ;; esac
done
exec "$lib/buildah" "${args[@]}"
SH
  chmod +x "$work/out/bin/buildah"
}

# imagebase: what Java, and the scripts of Spark's image, need in an image of its own.
keep_imagebase() {
  rm -rf "$work"/root/usr/share "$work"/root/usr/bin/tini-static "$work"/root/usr/lib/x86_64-linux-gnu/gconv
  mv "$work/root" "$work/out/root"
}
