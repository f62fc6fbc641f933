#!/bin/sh
# Puts field access into a root file system: deploy/field/install.sh ROOT. Needs openssh-server there; changes nothing else.
# The image builder calls it; on a board that is set up by hand, ROOT is / and it is root's to call.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=${1:?"usage: deploy/field/install.sh ROOT"}

install -D -m 755 "$here/field-shell" "$root/usr/lib/meterhub/field-shell"
install -D -m 644 "$here/sshd_config" "$root/etc/ssh/sshd_config"
install -D -m 644 "$here/meterhub-console@.service" "$root/usr/lib/systemd/system/meterhub-console@.service"
for unit in ssh.service ssh@.service; do
    install -D -m 644 "$here/field.conf" "$root/usr/lib/systemd/system/$unit.d/field.conf"
done
# sysusers locks an account with "!", which sshd takes for "may not come in" where PAM is not asked; "*" is "no password".
if [ -f "$root/etc/shadow" ]; then
    sed -i 's/^field:!\**:/field:*:/' "$root/etc/shadow"
fi
