# The data partition, for init: header at 0 (4 KiB), factory drop at 64 KiB, the file system from 1 MiB on.
# The header's text is "METERHUB-DATA-1 crypt|plain SALT". The key of the file system is never stored: it is
# SHA-512(secret of this chip, salt); erasing the header is erasing everything.

HEADER=METERHUB-DATA-1
DROP=METERHUB-DROP-1
OFFSET=2048 # sectors

# Prints this chip's secret as hexadecimal digits, nothing when it has none (blank fuses).
chip_secret() {
    case $SECRET in
    devmem:*)
        base=${SECRET#devmem:} words=
        for word in 0 4 8 12 16 20 24 28; do words=$words$(devmem $((base + word)) 32 2>/dev/null); done
        ;;
    nvmem:*)
        rest=${SECRET#nvmem:} device=${rest%%:*} at=${rest#*:}
        words=$(dd if="/sys/bus/nvmem/devices/$device/nvmem" bs=1 skip="$at" count=32 2>/dev/null | xxd -p -c 64)
        ;;
    esac
    case $(echo "$words" | sed 's/0x//g; s/[0Ff]//g') in
    "") ;;
    *) echo "$words" ;;
    esac
}

derive_key() { # secret salt
    printf '%s %s meterhub data' "$1" "$2" | sha512sum | cut -c "1-$((KEY_BYTES * 2))"
}

map_data() { # crypt|plain salt
    length=$(($(cat "/sys/class/block/${DISK}p5/size") - OFFSET))
    if [ "$1" = crypt ]; then
        secret=$(chip_secret)
        [ -n "$secret" ] || fail "the data partition is encrypted, and this chip has no secret"
        target="crypt $CIPHER $(derive_key "$secret" "$2") 0 /dev/${DISK}p5 $OFFSET 1 allow_discards"
        uuid=CRYPT-PLAIN-meterhub-data
    else
        target="linear /dev/${DISK}p5 $OFFSET"
        uuid=meterhub-data
    fi
    echo "0 $length $target" | dmsetup --noudevsync create data --uuid $uuid || fail "the data partition's key"
    dmsetup --noudevsync mknodes
}

# -p mends what is safe; what is left only a human would ask about, and none will come.
mend_data() {
    in_root /sbin/e2fsck -p /dev/mapper/data || [ $? -lt 4 ] || in_root /sbin/e2fsck -y /dev/mapper/data
}

mount_data() {
    mount -t ext4 -o noatime,nosuid,nodev,noexec,errors=panic,commit=30 /dev/mapper/data /root/data
}

in_root() { # a program of the verified root, before it is the root
    mount -o bind /dev /root/dev
    chroot /root "$@" >/dev/kmsg 2>&1
    status=$?
    umount /root/dev
    return $status
}

# An ext4 for power cuts: checksums on metadata, a journal small and written out at once, nothing initialised later.
make_data() {
    in_root /sbin/mke2fs -q -F -t ext4 -O metadata_csum,^resize_inode -J size=8 -m 1 -i 32768 \
        -E lazy_itable_init=0,lazy_journal_init=0,nodiscard -L data /dev/mapper/data || fail "mke2fs"
}

take_drop() {
    set -- $(dd if="/dev/${DISK}p5" bs=512 skip=128 count=1 2>/dev/null | head -n 1)
    [ "$1" = $DROP ] || return 0
    dd if="/dev/${DISK}p5" bs=512 skip=129 count=$((($2 + 511) / 512)) 2>/dev/null | head -c "$2" >/tmp/drop.tar
    [ "$(sha256sum </tmp/drop.tar | cut -c 1-64)" = "$3" ] || fail "the factory's drop is damaged"
    tar -x -f /tmp/drop.tar -C /root/data || fail "the factory's drop does not unpack"
    rm /tmp/drop.tar
    say "the factory's drop is taken"
    [ ! -f /root/data/meterhub/update/base.parts ] || make_base
}

# The update that these slots came from, as the base of the first difference (deploy/image/base.py). It only saves bytes
# later: whatever is amiss, the board goes without.
make_base() {
    cd /root/data/meterhub/update || return
    {
        read -r digest
        while read -r source skip length; do
            case $source in
            kernel) file=/dev/${DISK}p1 ;;
            rootfs) file=/dev/${DISK}p3 ;;
            *) file=base.rest ;;
            esac
            dd if="$file" bs=64k iflag=skip_bytes,count_bytes,fullblock skip="$skip" count="$length" 2>/dev/null
        done >base.raucb
    } <base.parts
    if [ "$(sha256sum <base.raucb | cut -c 1-64)" = "$digest" ]; then
        chown 960:960 base.raucb
        say "the base of the first update is made"
    else
        rm base.raucb base.raucb.idx
        say "the base of the first update is not right: it will be fetched whole"
    fi
    rm base.parts base.rest
    cd /
}

# Power may go at any moment: until the header is there all is done again, and the drop goes last.
first_boot() {
    salt=$(dd if=/dev/urandom bs=32 count=1 2>/dev/null | xxd -p -c 64)
    mode=crypt
    [ -n "$(chip_secret)" ] || mode=plain
    map_data $mode "$salt"
    make_data
    mount_data || fail "the new data partition does not mount"
    take_drop
    sync
    printf '%s %s %s\n' $HEADER $mode "$salt" | dd of="/dev/${DISK}p5" bs=4096 conv=sync,notrunc 2>/dev/null
    sync
    say "the data partition is made: $mode"
}

# Whether ext4's superblock (kernel: ext4 "Super Block") says: written to the end or to be had from the journal, no error
# found. Its magic 0xef53 at 1024 + 0x38 and its state 1 behind it; what the journal holds the mount replays by itself.
is_sound() {
    [ "$(dd if=/dev/mapper/data bs=2 skip=540 count=2 2>/dev/null | xxd -p)" = 53ef0100 ]
}

open_data() {
    set -- $(dd if="/dev/${DISK}p5" bs=512 count=1 2>/dev/null | head -n 1)
    if [ "$1" = $HEADER ]; then
        map_data "$2" "$3"
        is_sound || mend_data
        # An error that the journal remembers comes to light as it is replayed.
        if ! mount_data || ! is_sound; then
            umount /root/data 2>/dev/null
            mend_data
            mount_data || fail "the data partition does not mount"
        fi
    else
        first_boot
    fi
    case $(dd if="/dev/${DISK}p5" bs=512 skip=128 count=1 2>/dev/null | head -n 1) in
    $DROP*) dd if=/dev/zero of="/dev/${DISK}p5" bs=64k seek=1 count=15 conv=notrunc 2>/dev/null ;;
    esac
}
