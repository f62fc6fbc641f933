/* Included before everything in U-Boot (make's KCPPFLAGS). Of the environment on the medium, which whoever holds the
 * board can write, these variables are taken and no other: d a decimal number, s a string, w may come from outside. */
#define CONFIG_ENV_FLAGS_LIST_STATIC "BOOT_ORDER:sw,BOOT_A_LEFT:dw,BOOT_B_LEFT:dw,BOOT_ROUND:dw,HUB_INDEX:dw"
