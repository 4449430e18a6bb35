# Imports chosen modules of an engine's package as they are, without the engine: the package's other modules, and
# libraries that are not installed (torch, numpy), become empty stand-ins. Only for code that counts and never runs
# a model: a stand-in that is asked for anything but a name or a call fails loudly.
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import types


class Anything:
    """A class for whatever name is asked for: may be a base class, an annotation, and be called."""

    def __init__(self, *arguments, **options):
        pass

    def __init_subclass__(cls, **options):
        pass

    def __class_getitem__(cls, item):
        return cls


class StandIn(types.ModuleType):
    real = ()

    def __getattr__(self, name):
        below = f"{self.__name__}.{name}"
        if name.startswith("__") or any(each == below or each.startswith(f"{below}.") for each in self.real):
            raise AttributeError(name)
        made = type(name, (Anything,), {"__module__": self.__name__})
        setattr(self, name, made)
        return made


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, package, folder, real, absent):
        self.package, self.folder, self.real, self.absent = package, folder, real, absent

    def find_spec(self, fullname, path=None, target=None):
        root = fullname.partition(".")[0]
        if root == self.package:
            if fullname in self.real:
                return None
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        if root in self.absent:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec):
        module = StandIn(spec.name)
        module.real = self.real
        # A package above a real module is a stand-in whose folder is searched.
        above = any(name.startswith(f"{spec.name}.") for name in self.real)
        module.__path__ = [os.path.join(self.folder, *spec.name.split("."))] if above else []
        return module

    def exec_module(self, module):
        pass


def install(package, folder, real, absent=("torch", "numpy")):
    """Makes `package` importable from `folder`: the modules named in `real` as they are, the rest as stand-ins."""
    missing = [name for name in absent if importlib.util.find_spec(name) is None]
    sys.meta_path.insert(0, Finder(package, folder, set(real), set(missing)))
    sys.path.insert(0, folder)
