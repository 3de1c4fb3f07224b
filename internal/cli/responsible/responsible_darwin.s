#include "textflag.h"

TEXT responsibility_get_pid_responsible_for_pid_trampoline<>(SB),NOSPLIT,$0-0
	JMP	libc_responsibility_get_pid_responsible_for_pid(SB)

GLOBL	·responsibility_get_pid_responsible_for_pid_trampoline_addr(SB), RODATA, $8
DATA	·responsibility_get_pid_responsible_for_pid_trampoline_addr(SB)/8, $responsibility_get_pid_responsible_for_pid_trampoline<>(SB)

TEXT proc_pidpath_trampoline<>(SB),NOSPLIT,$0-0
	JMP	libc_proc_pidpath(SB)

GLOBL	·proc_pidpath_trampoline_addr(SB), RODATA, $8
DATA	·proc_pidpath_trampoline_addr(SB)/8, $proc_pidpath_trampoline<>(SB)
