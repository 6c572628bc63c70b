"""What a program that uses Pier does, in gdb: `source pier.py`, then `help pier`.

Works on a live process, stopped, and on a core file; needs the debug information of Pier. It reads
memory and calls nothing.
"""
import gdb
from gdb.unwinder import Unwinder


def read(name):
    """The value of one of Pier's variables."""
    try:
        return gdb.parse_and_eval(name)
    except gdb.error as why:
        raise gdb.GdbError(f"no {name}: is this program built with Pier, with debug information? ({why})")


def text(value):
    """A C string, "" for NULL."""
    return value.string(errors="replace") if int(value) else ""


def chain(first, member):
    while int(first):
        yield first
        first = first.dereference()[member]


def runners():
    return chain(read("pier__runners"), "next_runner")


def ops(runner):
    return chain(runner["ops"], "next")


def tasks(runner):
    kind = gdb.lookup_type("struct pier_task").pointer()
    for op in ops(runner):
        if int(op["cls"]["is_task"]):
            yield op.cast(kind)


def doing(op):
    return text(op["doing"]) or "waiting"


def describe_task(task):
    awaited = task["awaited"]
    if int(awaited) and not int(task["answered"]):
        state = f"suspended in {text(awaited['cls']['name'])}, {doing(awaited)}"
    else:
        state = "running, or about to"
    return f"task {int(task):#x} \"{text(task['name'].address.cast(gdb.lookup_type('char').pointer()))}\": {state}"


class Saved:
    """The registers of a suspended fiber, as sdk/fiber_switch.S leaves them on its stack."""

    def __init__(self, fiber):
        words = gdb.lookup_type("unsigned long").pointer()
        at = fiber["sp"].cast(words)
        architecture = gdb.selected_inferior().architecture().name()
        if architecture.startswith("i386:x86-64"):
            names = ["r15", "r14", "r13", "r12", "rbx", "rbp", "rip"]
            self.registers = {name: at[i + 1] for i, name in enumerate(names)}
            self.registers["rsp"] = gdb.Value(int(at) + 8 * 8)
        elif architecture.startswith("aarch64"):
            self.registers = {f"x{19 + i}": at[i] for i in range(12)}
            self.registers["pc"] = at[11]
            self.registers["sp"] = gdb.Value(int(at) + 176)
        else:
            raise gdb.GdbError(f"stacks of tasks cannot be read on {architecture}")
        self.pc = self.registers.get("rip", self.registers.get("pc"))
        self.sp = self.registers.get("rsp", self.registers.get("sp"))


class FrameId:
    def __init__(self, sp, pc):
        self.sp = sp
        self.pc = pc


class TaskUnwinder(Unwinder):
    """While `saved` is set, whatever runs now seems to have been called by that fiber."""

    def __init__(self):
        super().__init__("pier-task")
        self.saved = None

    def __call__(self, pending):
        if self.saved is None:
            return None
        sp = pending.read_register("rsp" if "rip" in self.saved.registers else "sp")
        pc = pending.read_register("rip" if "rip" in self.saved.registers else "pc")
        if pending.level() != 0 if hasattr(pending, "level") else sp != self.top:
            return None
        # As if on the fiber's stack too: gdb refuses to go from one stack to a lower one.
        inner = gdb.Value(int(self.saved.sp) - 16).cast(sp.type)
        info = pending.create_unwind_info(FrameId(inner, pc))
        for name, value in self.saved.registers.items():
            kind = pending.read_register(name).type
            info.add_saved_register(name, gdb.Value(int(value)).cast(kind))
        return info


unwinder = TaskUnwinder()
gdb.unwinder.register_unwinder(None, unwinder, replace=True)


def backtrace(task):
    """The frames of a suspended task as text, the innermost first."""
    thread = gdb.selected_thread()
    if thread is None:
        raise gdb.GdbError("there is no process and no core file")
    gdb.newest_frame().select()
    name = "$rsp" if "x86-64" in gdb.selected_inferior().architecture().name() else "$sp"
    unwinder.top = gdb.parse_and_eval(name)
    unwinder.saved = Saved(task["fiber"].dereference())
    gdb.invalidate_cached_frames()
    try:
        lines = gdb.execute("backtrace", to_string=True).splitlines()
    finally:
        unwinder.saved = None
        gdb.invalidate_cached_frames()
    # Frame 0 is what really runs; a frame's further lines are indented.
    start = next((i for i, line in enumerate(lines) if line.startswith("#1 ")), len(lines))
    return lines[start:]


class Pier(gdb.Command):
    """Shows what Pier does: pier tasks [-b], pier ops, pier pools."""

    def __init__(self):
        super().__init__("pier", gdb.COMMAND_STATUS, prefix=True)


class Tasks(gdb.Command):
    """Lists the tasks of all runners, with -b the stack of each that is suspended."""

    def __init__(self):
        super().__init__("pier tasks", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        for runner in runners():
            for task in tasks(runner):
                print(describe_task(task))
                if argument.strip() == "-b" and int(task["awaited"]):
                    for line in backtrace(task):
                        print("    " + line)


class Ops(gdb.Command):
    """Lists what the loops step and which threads have been waiting in a call."""

    def __init__(self):
        super().__init__("pier ops", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        for runner in runners():
            print(f"runner {text(runner['name'].address.cast(gdb.lookup_type('char').pointer()))}")
            for op in ops(runner):
                holder = f", task {int(op['holder']):#x}" if int(op["holder"]) else ""
                print(f"operation {text(op['cls']['name'])}: {doing(op)}{holder}")
            for entry in chain(runner["waiting"], "next"):
                op = entry["op"]
                print(f"thread {int(entry['tid'])}: in {text(op['cls']['name'])}, {doing(op)}")


class Pools(gdb.Command):
    """Lists the pools of databases, and who holds their connections."""

    def __init__(self):
        super().__init__("pier pools", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        describe = int(gdb.parse_and_eval("(unsigned long)&pier__db_describe"))
        kind = gdb.lookup_type("struct pier_db").pointer()
        for runner in runners():
            for handle in chain(runner["newest"], "older"):
                if int(handle["describe"]) == describe:
                    self.show(handle.cast(kind))

    def show(self, root):
        pools = [root["pool"]] + ([root["readers"].dereference()] if int(root["readers"]) else [])
        for pool in pools:
            print(f"pool {text(root['name'])}: {int(pool['total'])} of {int(pool['max'])} "
                  f"{text(pool['what'])}s, {int(pool['waiting'])} waiting")
            for thing in chain(pool["all"], "all_next"):
                what = text(thing["holder_what"]) or "idle, or in use by one call"
                who = f" of thread {int(thing['held_by'])}" if int(thing["held_by"]) else (
                    f" of task {int(thing['holder']):#x}" if int(thing["holder"]) else "")
                print(f"connection {int(thing):#x}: {what}{who}")


Pier()
Tasks()
Ops()
Pools()
