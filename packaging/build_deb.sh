#!/usr/bin/env bash
# Packs build/release/holdfast into build/package/holdfast_<version>_<arch>.deb.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

version=$(sed -n 's/^project(holdfast VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
arch=$(dpkg --print-architecture)
root=build/package/root
rm -rf "$root"
install -D -m 755 build/release/holdfast "$root/usr/bin/holdfast"
strip --strip-debug "$root/usr/bin/holdfast"
install -D -m 644 packaging/holdfast.service "$root/lib/systemd/system/holdfast.service"
install -D -m 644 packaging/holdfast.conf "$root/etc/holdfast/holdfast.conf"
for document in README.md CHANGELOG.md docs/install.md docs/configuration.md docs/troubleshooting.md; do
  install -D -m 644 "$document" "$root/usr/share/doc/holdfast/$(basename "$document")"
done
install -D -m 644 LICENSE "$root/usr/share/doc/holdfast/copyright"

# The packages that the binary's shared libraries come from, in the versions here or newer.
mkdir -p "$root/debian" "$root/DEBIAN"
printf 'Source: holdfast\nPackage: holdfast\nArchitecture: any\n' >"$root/debian/control"
depends=$(cd "$root" && dpkg-shlibdeps -O usr/bin/holdfast | sed -n 's/^shlibs:Depends=//p')
rm -r "$root/debian"
cat >"$root/DEBIAN/control" <<CONTROL
Package: holdfast
Version: $version
Architecture: $arch
Maintainer: holdfast developers <holdfast@localhost>
Installed-Size: $(du -sk "$root" | cut -f 1)
Depends: $depends
Suggests: postgresql
Section: database
Priority: optional
Description: backup and restore as SQL for PostgreSQL
 One process beside PostgreSQL that speaks its protocol and adds BACKUP, RESTORE,
 SHOW BACKUP and SHOW JOBS to it; every other statement is passed through.
CONTROL
echo /etc/holdfast/holdfast.conf >"$root/DEBIAN/conffiles"
dpkg-deb --root-owner-group --build "$root" "build/package/holdfast_${version}_$arch.deb"
