"""The smallest guest that a BIOS boots from a disk: it says BOOTED on the first serial port and then does what comes
there: p powers the machine off, r reboots it. It takes a fraction of a second where Linux takes several."""

SIZE = 1 << 20

_ORIGIN = 0x7C00
_TEXT = b"\r\nBOOTED\r\n\0"

# Instructions; a string is a label, and so is what a jump goes to.
_PROGRAM = [
    "\x31\xc0",  # xor ax, ax
    "\x8e\xd8",  # mov ds, ax
    "\xfc",  # cld
    ("\xbe", "text"),  # mov si, text
    "print:",
    "\xac",  # lodsb
    "\x84\xc0",  # test al, al
    ("\x74", "wait"),  # jz wait
    "\xba\xf8\x03",  # mov dx, 0x3f8: the port's data
    "\xee",  # out dx, al
    ("\xeb", "print"),  # jmp print
    "wait:",
    "\xba\xfd\x03",  # mov dx, 0x3fd: its state
    "\xec",  # in al, dx
    "\xa8\x01",  # test al, 1: is there something?
    ("\x74", "wait"),  # jz wait
    "\xba\xf8\x03",  # mov dx, 0x3f8
    "\xec",  # in al, dx
    "\x3cp",  # cmp al, 'p'
    ("\x74", "off"),  # je off
    "\x3cr",  # cmp al, 'r'
    ("\x75", "wait"),  # jne wait
    "\xba\xf9\x0c",  # mov dx, 0xcf9: the chipset's reset register
    "\xb0\x06",  # mov al, 6
    "\xee",  # out dx, al
    "\xf4",  # hlt
    "off:",
    "\xba\x04\x06",  # mov dx, 0x604: ACPI's PM1a control, where the BIOS puts it
    "\xb8\x00\x20",  # mov ax, 0x2000: sleep, of the kind "soft off"
    "\xef",  # out dx, ax
    "\xf4",  # hlt
]


def _length(item):
    if isinstance(item, tuple):
        return 3 if item[1] == "text" else 2
    return 0 if item.endswith(":") and len(item) > 2 else len(item)


def _labels():
    labels, at = {}, 0
    for item in _PROGRAM:
        if isinstance(item, str) and _length(item) == 0:
            labels[item[:-1]] = at
        at += _length(item)
    return {**labels, "text": at}


def _code():
    labels, code = _labels(), b""
    for item in _PROGRAM:
        if isinstance(item, tuple):
            opcode, label = item[0].encode("latin-1"), labels[item[1]]
            if item[1] == "text":
                code += opcode + (_ORIGIN + label).to_bytes(2, "little")
            else:
                code += opcode + (label - len(code) - 2).to_bytes(1, "little", signed=True)
        elif _length(item):
            code += item.encode("latin-1")
    return code + _TEXT


def disk():
    """The bytes of the disk."""
    return _code().ljust(510, b"\0") + b"\x55\xaa" + bytes(SIZE - 512)
