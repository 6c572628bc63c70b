/*
 * void pier__fiber_switch(void **save_sp, void *load_sp)
 *
 * Saves the callee-saved registers and the stack pointer of the caller, loads another's. A new
 * fiber's stack is laid out by fiber.c as if it had called this, and enters pier__fiber_start with
 * the fiber as its argument.
 */
#if defined(__x86_64__)
    .text
    .globl pier__fiber_switch
    .hidden pier__fiber_switch
    .type pier__fiber_switch, @function
    .p2align 4
pier__fiber_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    subq $8, %rsp
    stmxcsr (%rsp)
    fnstcw 4(%rsp)
    movl (%rsp), %eax
    movzwl 4(%rsp), %ecx
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    /* Loading the control words costs more than seeing that they are the same. */
    cmpl (%rsp), %eax
    je 1f
    ldmxcsr (%rsp)
1:
    cmpw 4(%rsp), %cx
    je 2f
    fldcw 4(%rsp)
2:
    addq $8, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    /* Not ret: the processor would foresee a return to the stack that was left. */
    popq %rcx
    jmp *%rcx
    .size pier__fiber_switch, .-pier__fiber_switch

    .globl pier__fiber_enter
    .hidden pier__fiber_enter
    .type pier__fiber_enter, @function
    .p2align 4
pier__fiber_enter:
    .cfi_startproc
    .cfi_undefined %rip
    movq %r12, %rdi
    xorl %ebp, %ebp
    call pier__fiber_start
    ud2
    .cfi_endproc
    .size pier__fiber_enter, .-pier__fiber_enter
#elif defined(__aarch64__)
    .text
    .globl pier__fiber_switch
    .hidden pier__fiber_switch
    .type pier__fiber_switch, %function
    .p2align 4
pier__fiber_switch:
    sub sp, sp, #176
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #176
    ret
    .size pier__fiber_switch, .-pier__fiber_switch

    .globl pier__fiber_enter
    .hidden pier__fiber_enter
    .type pier__fiber_enter, %function
    .p2align 4
pier__fiber_enter:
    .cfi_startproc
    .cfi_undefined x30
    mov x0, x19
    mov x29, #0
    bl pier__fiber_start
    brk #1
    .cfi_endproc
    .size pier__fiber_enter, .-pier__fiber_enter
#endif

#if defined(__linux__) && defined(__ELF__)
    .section .note.GNU-stack, "", %progbits
#endif
