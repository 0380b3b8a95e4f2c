#!/usr/bin/env bash
# Installs Apptainer for the tests on Debian 12 (amd64, as root), which has no package of it.
#
# Debian unstable has one, built against a newer C library. That library goes into a folder of its
# own, which the package's programs are told to use; the package is rebuilt with it inside and
# installed by dpkg, so that it can be removed like any other. The system's C library is untouched.
# Where Apptainer works already, nothing is done. On your own computer take Apptainer from your
# distribution or from apptainer.org instead.
#
# Exit codes: 0 Apptainer works; 3 this computer is not one that the script knows; else it failed.
set -euo pipefail

libraries=/opt/apptainer-libraries
temporary=$(mktemp -d /var/tmp/install-apptainer.XXXXXX)
chmod 755 "$temporary"
trap 'rm -rf "$temporary"' EXIT

quietly() { "$@" >"$temporary/log" 2>&1 || { cat "$temporary/log" >&2; return 1; }; }

# A file system with one program in it, run as this user and as one without any rights.
works() {
    local root=$temporary/root
    command -v apptainer >/dev/null || return 1
    mkdir -p "$root"/{bin,lib64,lib/x86_64-linux-gnu,dev,etc,proc,sys,tmp,var/tmp}
    cp -L /bin/true "$root/bin/"
    cp -L /lib64/ld-linux-x86-64.so.2 "$root/lib64/"
    cp -L /lib/x86_64-linux-gnu/libc.so.6 "$root/lib/x86_64-linux-gnu/"
    quietly apptainer exec "$root" /bin/true &&
        { [ "$(id -u)" -ne 0 ] || (
            cd / && quietly env HOME=/tmp setpriv --reuid 65534 --regid 65534 --clear-groups \
                apptainer exec "$root" /bin/true); }
}

# Distributions let everybody use this device; a bare virtual machine may not.
share_fuse() { if [ -c /dev/fuse ] && [ -w /dev ]; then chmod 0666 /dev/fuse; fi; }

# Root without some of its usual capabilities (as in many virtual machines) must name those that it
# has: Apptainer would ask for all of them, and start nothing. It builds as other users do, in a
# name space with ids of its own.
set_up_root() {
    local all own names file
    all=$(((1 << ($(cat /proc/sys/kernel/cap_last_cap) + 1)) - 1))
    own=$((16#$(awk '/^CapPrm:/ {print $2}' /proc/self/status)))
    if [ "$own" -ne "$all" ]; then
        names=$(setpriv --dump | awk -F': ' '/^Capability bounding set/ {print toupper($2)}')
        quietly apptainer config global --set 'root default capabilities' file
        quietly apptainer capability add --user root "CAP_${names//,/,CAP_}"
    fi
    for file in /etc/subuid /etc/subgid; do
        grep -qs '^root:' "$file" || echo 'root:1000000000:65536' >>"$file"
    done
}

install_tools() {
    local tools=(patchelf squashfs-tools uidmap fakeroot squashfuse fuse-overlayfs fuse3 e2fsprogs
        ca-certificates)
    quietly apt-get update -q
    quietly apt-get install -y -q --no-install-recommends "${tools[@]}"
}

# Debian unstable, from the server that this computer's own sources name, for this script only.
download() {
    local server
    server=$(apt-get update --print-uris | sed -n "s#^'\(.*\)/dists/bookworm/InRelease'.*#\1#p" | head -n 1)
    [ -n "$server" ] || { echo "No package source for Debian 12 is set up." >&2; return 1; }
    mkdir -p "$temporary"/{lists/partial,cache/archives/partial,debs}
    echo "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $server sid main" \
        >"$temporary/sources.list"
    local apt=(apt-get -q -o "Dir::Etc::sourcelist=$temporary/sources.list"
        -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::Lists=$temporary/lists"
        -o "Dir::Cache=$temporary/cache" -o APT::Sandbox::User=root -o Acquire::Languages=none
        -o Acquire::Retries=3 -o Acquire::Check-Valid-Until=false -o Acquire::Check-Date=false)
    quietly "${apt[@]}" update
    (cd "$temporary/debs" &&
        quietly "${apt[@]}" download apptainer/sid libc6/sid libseccomp2/sid libsqlite3-0/sid)
}

rebuild() {
    local tree=$temporary/tree package file
    dpkg-deb -R "$temporary"/debs/apptainer_*.deb "$tree"
    mkdir -p "$tree$libraries"
    for package in libc6 libseccomp2 libsqlite3-0; do
        dpkg-deb -x "$temporary/debs/$package"_*.deb "$temporary/$package"
        find "$temporary/$package" -path '*x86_64-linux-gnu/*.so*' -not -type d \
            -not -path '*/gconv/*' -exec cp -a -t "$tree$libraries" {} +
    done
    find "$tree/usr" -type f -perm -u+x -print0 | while IFS= read -r -d '' file; do
        if patchelf --print-interpreter "$file" >/dev/null 2>&1; then
            patchelf --set-interpreter "$libraries/ld-linux-x86-64.so.2" --force-rpath \
                --set-rpath "$libraries" "$file"
        fi
    done
    # It needs no other C library any more.
    sed -i -e '/^Depends:/c Depends: ca-certificates, squashfs-tools, uidmap' \
        -e '/^\(Static-\)\?Built-Using:/d' -e 's/^Version: .*/&+ownlibraries/' "$tree/DEBIAN/control"
    rm -f "$tree/DEBIAN/md5sums"
    quietly dpkg-deb --root-owner-group -Zgzip -z1 -b "$tree" "$temporary/apptainer.deb"
}

share_fuse
if works; then exit 0; fi
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
if [ "$(id -u)" -ne 0 ] || [ "$codename" != bookworm ] || [ "$(dpkg --print-architecture)" != amd64 ]; then
    echo "Apptainer is not installed; this script can install it on Debian 12 (amd64), as root." >&2
    exit 3
fi
export DEBIAN_FRONTEND=noninteractive
install_tools
if ! command -v apptainer >/dev/null; then
    download
    rebuild
    quietly dpkg -i --force-confold "$temporary/apptainer.deb"
fi
share_fuse
set_up_root
works || { echo "Apptainer is installed, but does not start a program." >&2; exit 1; }
echo "Installed $(apptainer --version)."
