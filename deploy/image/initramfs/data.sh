# The data partition, for init: header at 0 (4 KiB), factory drop at 64 KiB, a copy of the header at 1020 KiB, the file
# system from 1 MiB on. The header's text is "METERHUB-DATA-1 crypt|plain SALT CHECK". The key of the file system is never
# stored: it is SHA-512(secret of this chip, salt); erasing both headers is erasing everything.
#
# Nothing here is made anew because something could not be read. A first boot is a partition whose headers are all zero
# and a drop of the factory beside them. Whatever else is found is read again, mended where it can be, told, and at last
# the home is served from memory: never a wiped hub, never a board that starts for ever.
# DATA is the partition's device; hub.conf's names are in init.

HEADER=METERHUB-DATA-1
DROP=METERHUB-DROP-1
OFFSET=2048 # sectors
COPY=2040   # sectors
DROP_AT=128 # sectors
TRIES=5 RETRY_S=1

# For the engineer at the serial console, which is quiet else.
tell() { echo "<2>hub: $*" >/dev/kmsg; }

# One read error is no news of a medium: it may be the bus, or a cell that the next read refreshes.
read_sectors() { # first count file
    try=0
    until dd if="$DATA" bs=512 skip="$1" count="$2" of="$3" 2>/dev/null && [ "$(wc -c <"$3")" -eq $(($2 * 512)) ]; do
        try=$((try + 1))
        [ $try -lt $TRIES ] || return 1
        sleep $RETRY_S
    done
}

check_word() { # mode salt
    printf '%s %s' "$1" "$2" | sha256sum | cut -c 1-16
}

# Prints what a header's place holds: "header MODE SALT", "blank", "foreign" or "unreadable".
judge_header() { # sector
    read_sectors "$1" 8 /tmp/header || {
        echo unreadable
        return
    }
    [ "$(tr -d '\000' </tmp/header | wc -c)" -gt 0 ] || {
        echo blank
        return
    }
    set -f
    set -- $(head -c 256 /tmp/header | tr -d '\000' | head -n 1)
    set +f
    case "$1 $2" in
    "$HEADER crypt" | "$HEADER plain") ;;
    *) set -- ;;
    esac
    case $3 in
    *[!0-9a-f]*) set -- ;;
    esac
    # Headers of the first releases have no check word.
    if [ ${#3} -eq 64 ] && [ "${4:-$(check_word "$2" "$3")}" = "$(check_word "$2" "$3")" ]; then
        echo "header $2 $3"
    else
        echo foreign
    fi
}

# Sets `found` to "header MODE SALT", "blank", or what is wrong.
find_header() {
    first=$(judge_header 0) second=$(judge_header $COPY)
    case $first/$second in
    header*) found=$first ;;
    */header*) found=$second ;;
    blank/blank) found=blank ;;
    *) found="its header is ${first%% *}, the header's copy ${second%% *}" ;;
    esac
}

write_header() { # sector mode salt
    printf '%s %s %s %s\n' $HEADER "$2" "$3" "$(check_word "$2" "$3")" |
        dd of="$DATA" bs=4096 seek=$(($1 / 8)) conv=sync,notrunc,fsync 2>/dev/null
}

# Each place that does not say what counts is written anew; a flash puts a fresh block in the place of a bad one.
mend_headers() { # MODE SALT
    for place in 0 $COPY; do
        [ $place = 0 ] && seen=$first || seen=$second
        [ "$seen" = "header $1 $2" ] && continue
        write_header $place "$1" "$2" && say "the data partition's header at sector $place is written anew (${seen%% *})"
    done
}

# Prints this chip's secret as hexadecimal digits, nothing when it has none (blank fuses).
chip_secret() {
    try=0
    while :; do
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
        try=$((try + 1))
        [ -z "$words" ] && [ $try -lt 3 ] || break
        usleep 200000
    done
    case $(echo "$words" | sed 's/0x//g; s/[0Ff]//g') in
    "") ;;
    *) echo "$words" ;;
    esac
}

derive_key() { # secret salt
    printf '%s %s meterhub data' "$1" "$2" | sha512sum | cut -c "1-$((KEY_BYTES * 2))"
}

# Leaves /dev/mapper/data, where the medium lets nobody write one to read from; or why there is none in `why`.
map_data() { # crypt|plain salt
    length=$(($(cat "/sys/class/block/${DISK}p5/size") - OFFSET))
    if [ "$1" = crypt ]; then
        secret=$(chip_secret)
        [ -n "$secret" ] || {
            why="it is encrypted, and this chip has no secret"
            return 1
        }
        target="crypt $CIPHER $(derive_key "$secret" "$2") 0 $DATA $OFFSET 1 allow_discards"
        uuid=CRYPT-PLAIN-meterhub-data
    else
        target="linear $DATA $OFFSET"
        uuid=meterhub-data
    fi
    for option in "" --readonly; do
        # shellcheck disable=SC2086
        if echo "0 $length $target" | dmsetup --noudevsync create data $option --uuid $uuid; then
            dmsetup --noudevsync mknodes
            return 0
        fi
    done
    why="the kernel does not map it"
    return 1
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
        -E lazy_itable_init=0,lazy_journal_init=0,nodiscard -L data /dev/mapper/data
}

# ext4's superblock (kernel: ext4 "Super Block"): bytes from a place in it, as hexadecimal digits.
super_block() { # offset bytes
    dd if=/dev/mapper/data bs=1 skip=$((1024 + $1)) count="$2" 2>/dev/null | xxd -p
}

# Whether it says: written to the end or to be had from the journal, no error found. Its magic 0xef53 at 0x38 and its
# state 1 behind it; what the journal holds the mount replays by itself.
is_sound() { [ "$(super_block 56 4)" = 53ef0100 ]; }

# -p mends what is safe; what is left only a human would ask about, and none will come.
mend_data() {
    in_root /sbin/e2fsck -p /dev/mapper/data || [ $? -lt 4 ] || in_root /sbin/e2fsck -y /dev/mapper/data
}

# What was mended and showed an error in its very next mount (s_mnt_count at 0x34) has bad blocks: every block is read
# once, and the bad ones are left out from then on. What even that did not mend, as its name says (0x78), is not used.
mend_harder() {
    case $(super_block 52 2):$(super_block 120 7) in
    0?00:7363616e6e6564) # "scanned", less than sixteen mounts ago
        return 1
        ;;
    0000:* | 0100:*)
        tell "the data partition showed errors as soon as it was mended: every block of it is read"
        in_root /sbin/e2fsck -f -y -c /dev/mapper/data
        in_root /sbin/e2label /dev/mapper/data scanned
        ;;
    *)
        mend_data
        in_root /sbin/e2label /dev/mapper/data data
        ;;
    esac
}

# An error that the journal remembers comes to light as it is replayed.
open_file_system() {
    if is_sound; then
        mount_data && is_sound && return 0
        umount /root/data 2>/dev/null
    fi
    mend_harder && mount_data && is_sound
}

# The home goes on, whatever the medium does: what a hub is comes from the partition where that can be read, and the rest
# lives until the next start. Its numbers then are those of an epoch that is drawn (store/epoch_file.py).
serve_from_memory() { # why
    tell "the data partition is not used: $1; the home is served from memory, and each start forgets it"
    data=memory data_why=$1
    umount /root/data 2>/dev/null
    mount -t tmpfs -o mode=0755,size=48m,nosuid,nodev,noexec tmpfs /root/data
    [ -b /dev/mapper/data ] || return 0
    mkdir -p /old
    if mount -t ext4 -o ro,noload,nosuid,nodev,noexec /dev/mapper/data /old; then
        copy_small /old /root/data
        umount /old
    fi
    dmsetup --noudevsync remove data
}

# Identity, settings, token, network: all that is small. Not the store, whose numbers may be given once only.
copy_small() { # from to
    (
        cd "$1" || return
        find . -xdev -type d ! -path './lost+found*' ! -path './meterhub/update*' | while read -r folder; do
            mkdir -p "$2/$folder"
            chmod "$(stat -c %a "$folder")" "$2/$folder"
            chown "$(stat -c %u:%g "$folder")" "$2/$folder"
        done
        find . -xdev -type f -size -2048 ! -path './meterhub/hub.db*' ! -path './meterhub/epoch*' \
            ! -path './meterhub/update*' ! -path './lost+found*' | while read -r file; do
            cp -p "$file" "$2/$file" || tell "${file#./} cannot be read: left out"
        done
    )
}

# The factory's drop into /tmp/drop.tar. Exit status 1: there is none; 2: it cannot be used, `why` says more.
fetch_drop() {
    read_sectors $DROP_AT 1 /tmp/drop.line || {
        why="the factory's drop cannot be read"
        return 2
    }
    set -f
    set -- $(tr -d '\000' </tmp/drop.line | head -n 1)
    set +f
    [ "$1" = $DROP ] || return 1
    try=0
    while :; do
        dd if="$DATA" bs=512 skip=$((DROP_AT + 1)) count=$((($2 + 511) / 512)) 2>/dev/null | head -c "$2" >/tmp/drop.tar
        [ "$(sha256sum </tmp/drop.tar | cut -c 1-64)" != "$3" ] || return 0
        try=$((try + 1))
        [ $try -lt $TRIES ] || break
        sleep $RETRY_S
    done
    why="the factory's drop is damaged"
    return 2
}

unpack_drop() {
    tar -x -f /tmp/drop.tar -C /root/data || return 1
    rm /tmp/drop.tar
    say "the factory's drop is taken"
}

# The update that these slots came from, as the base of the first difference (deploy/image/base.py). It only saves bytes
# later: whatever is amiss, the board goes without.
make_base() {
    [ -f /root/data/meterhub/update/base.parts ] || return 0
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

# Power may go at any moment: until a header is there all is done again, and the drop goes last.
first_boot() {
    fetch_drop
    case $? in
    1) why="it is blank, and no drop of the factory lies there" ;;
    0)
        salt=$(dd if=/dev/urandom bs=32 count=1 2>/dev/null | xxd -p -c 64)
        mode=crypt
        [ -n "$(chip_secret)" ] || mode=plain
        why="it cannot be written"
        if map_data $mode "$salt" && make_data && mount_data && unpack_drop; then
            make_base
            sync
            write_header $COPY $mode "$salt"
            write_header 0 $mode "$salt" && {
                sync
                say "the data partition is made: $mode"
                return 0
            }
        fi
        umount /root/data 2>/dev/null
        dmsetup --noudevsync remove data 2>/dev/null
        serve_from_memory "$why"
        unpack_drop
        return 0
        ;;
    esac
    serve_from_memory "$why"
}

# Over with: what it held is in the encrypted file system. The header's copy behind it stays.
erase_drop() {
    case $(dd if="$DATA" bs=512 skip=$DROP_AT count=1 2>/dev/null | tr -d '\000' | head -n 1) in
    $DROP*) dd if=/dev/zero of="$DATA" bs=4096 seek=16 count=239 conv=notrunc,fsync 2>/dev/null ;;
    esac
}

open_data() {
    data=partition data_why=
    find_header
    case $found in
    header*)
        set -- $found
        if map_data "$2" "$3" && why="its file system cannot be mended" && open_file_system; then
            mend_headers "$2" "$3"
        else
            serve_from_memory "$why"
        fi
        ;;
    blank) first_boot ;;
    *) serve_from_memory "$found" ;;
    esac
    [ $data = memory ] || erase_drop
}
