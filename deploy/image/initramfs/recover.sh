# The card's turn, for init: U-Boot had no slot left that starts, and has verified this program on a card. Both slots are
# written anew from it; the data partition stays as it is. Power may go at any moment: U-Boot comes to the card once more.
# What is written here is verified at each start like everything else, so nothing is gained by changing cards meanwhile.

# Whether the kernel has found the partitions: it makes their devices a moment after the disk's.
has_partitions() {
    try=0
    until [ -b "/dev/${DISK}p5" ]; do
        try=$((try + 1))
        [ $try -lt 40 ] || return 1
        usleep 50000
    done
}

# Neither the table nor its copy at the medium's end (`gpt` on the command line) is to be had: the one that the factory
# wrote is in this program. One bad block must not hide what is sound behind it.
mend_table() {
    tell "the partition table cannot be read: it is written anew"
    dd if=/table of="/dev/$DISK" bs=512 conv=notrunc,fsync 2>/dev/null || fail "the partition table cannot be written"
    blockdev --rereadpt "/dev/$DISK"
}

# Prints the first line of a medium's data partition from a sector on; the partition table is not needed.
data_line() { # medium sector
    dd if="/dev/$1" bs=512 skip=$((SYSTEM_MB * 2048 + $2)) count=1 2>/dev/null | head -n 1
}

write_slots() {
    # Every block of the card's root against its signed hashes; one that does not fit restarts the board.
    dd if=/dev/mapper/root of=/dev/null bs=1M 2>/dev/null || fail "the card's root cannot be read"
    if [ -b "/dev/${DISK}p5" ]; then
        [ "$(cat "/sys/class/block/${DISK}p5/start")" = $((SYSTEM_MB * 2048)) ] ||
            fail "the disk is laid out otherwise than the card"
    fi
    # U-Boot's environment in front of them stays: it knows below which rollback index nothing starts here.
    dd if="/dev/$CARD" of="/dev/$DISK" bs=1M skip="$SLOTS_MB" seek="$SLOTS_MB" count=$((SYSTEM_MB - SLOTS_MB)) \
        conv=notrunc,fsync 2>/dev/null || fail "the disk cannot be written"
    [ ! -b "/dev/${DISK}p5" ] || return 0
    tell "recovery: the disk gets the card's partition table"
    dd if="/dev/$CARD" of="/dev/$DISK" bs=1M count=1 conv=notrunc,fsync 2>/dev/null || fail "the disk cannot be written"
    blockdev --rereadpt "/dev/$DISK"
    wait_for_block "/dev/${DISK}p5"
}

# The card's identity into a data partition that has lost its own; the store that is there knows its epoch better.
take_identity() {
    cp -p /root/data/meterhub/epoch /tmp/epoch 2>/dev/null
    (DATA=/dev/${CARD}p5 && fetch_drop && unpack_drop)
    [ ! -f /tmp/epoch ] || cp -p /tmp/epoch /root/data/meterhub/epoch
}

# Whether the data partition is this board's and can be read, mended if need be.
data_opens() {
    find_header
    case $found in
    header*) set -- $found ;;
    *) return 1 ;;
    esac
    map_data "$2" "$3" || return 1
    mend_data
    mount -t ext4 -o nosuid,nodev,noexec,errors=remount-ro /dev/mapper/data /root/data || {
        dmsetup --noudevsync remove data
        return 1
    }
    [ -s /root/data/etc-meterhub/hub.toml ] || take_identity
    sync
    umount /root/data
    dmsetup --noudevsync remove data
}

# A card that was made for one hub carries its identity (deploy/image/drop.py). It counts only where the old one is lost.
write_drop() {
    case $(data_line "$CARD" 128) in
    $DROP*) ;;
    *) return 0 ;;
    esac
    if data_opens; then
        tell "recovery: the data partition opens, and is kept"
        return 0
    fi
    tell "recovery: the data partition is lost; the card's identity takes its place"
    dd if="/dev/$CARD" of="/dev/$DISK" bs=1M skip="$SYSTEM_MB" seek="$SYSTEM_MB" count=1 conv=notrunc,fsync 2>/dev/null ||
        fail "the disk cannot be written"
}

recover() {
    tell "recovery: the slots are written anew from the card"
    wait_for_block "/dev/$DISK"
    write_slots
    write_drop
    sync
    tell "recovery is done: the card can be removed"
    reboot -f
    sleep 60
}
