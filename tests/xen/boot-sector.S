/* A disk that boots on a PC and is nothing but its first sector: the least that proves a machine with its devices. It
 * says BOOT-OK and the 8 bytes at the beginning of the second sector on the serial line, and then does what it is told
 * there, one letter each: p(ower off), r(eset), w(rite "PERSISTS" to the second sector). Anything else it says again. */
.code16
.globl _start
_start:
	cli
	xorw %ax, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movw $0x7c00, %sp
	cld
	sti
	movb %dl, drive
	movw $0x3fb, %dx		/* COM1: 8 bits, no parity, one stop bit */
	movb $3, %al
	outb %al, %dx
	movw $ok, %si
	call print
	movb $0x42, %ah			/* read */
	call disk
	movw $buffer, %si
	movb $0, buffer + 8
	call print
	movw $end, %si
	call print
next:
	hlt				/* until the clock ticks: looking at a port costs a trip to the device model */
	movw $0x3fd, %dx
	inb %dx, %al
	testb $1, %al
	jz next
	movw $0x3f8, %dx
	inb %dx, %al
	cmpb $'p', %al
	je power_off
	cmpb $'r', %al
	je reset
	cmpb $'w', %al
	je write
	call put
	jmp next
write:
	movw $persists, %si
	movw $buffer, %di
	movw $8, %cx
	rep movsb
	movw $0x4300, %ax		/* write */
	call disk
	movw $written, %si
	call print
	jmp next
reset:
	movw $0xcf9, %dx
	movb $6, %al
	outb %al, %dx
	jmp next
power_off:
	movw $0xb004, %dx		/* PM1a_CNT of this machine: S5 is type 0 */
	movw $0x2000, %ax
	outw %ax, %dx
	jmp next

disk:					/* %ah: the BIOS's extended call */
	movb drive, %dl
	movw $packet, %si
	int $0x13
	jnc 1f
	movw $broken, %si
	call print
1:	ret

print:					/* the string at %si */
	lodsb
	testb %al, %al
	jz 1f
	call put
	jmp print
1:	ret

put:					/* %al */
	movb %al, %bl
	movw $0x3fd, %dx
1:	inb %dx, %al
	testb $0x20, %al
	jz 1b
	movw $0x3f8, %dx
	movb %bl, %al
	outb %al, %dx
	ret

ok:	.asciz "BOOT-OK <"
end:	.asciz ">\r\n"
written: .asciz "WRITTEN\r\n"
broken:	.asciz "BROKEN "
persists: .ascii "PERSISTS"
drive:	.byte 0
.balign 4
packet:	.byte 16, 0
	.word 1				/* sector */
	.word buffer, 0
	.quad 1				/* the second */
.org 510
	.word 0xaa55
.equ buffer, _start + 0x200
