"""The chain below U-Boot on an i.MX6UL: what the boot ROM starts is signed, and the chip is told to start nothing else
(High Assurance Boot 4).

    python -m deploy.image.hab keys KEYS                four roots and what signs below them; once, where no network is
    python -m deploy.image.hab sign BUILD KEYS          SPL-signed and u-boot-signed.img beside BUILD's own
    python -m deploy.image.hab judge KEYS FILE ...      what the ROM would say of signed images
    python -m deploy.image.hab fuses KEYS               what is blown, in order, as U-Boot's commands
    python -m deploy.image.hab loader OUT               an open U-Boot with a prompt, for the bench
    python -m deploy.image.hab burn KEYS --port PORT    a board on the bench: its secret, the roots' hash
    python -m deploy.image.hab see KEYS --port PORT     its signed start, without an event
    python -m deploy.image.hab close KEYS --port PORT   only then: the end of everything unsigned

csf.py writes what the ROM reads, rom.py reads it as the ROM does, and neither knows of the other. Sources: NXP AN4581,
the HAB 4 API reference; U-Boot, doc/imx/habv4; the i.MX 6UltraLite reference manual, fuse map.

NEVER RUN ON A CHIP: no board was here. What is shown, and by what, stands in docs/factory.md.
"""
