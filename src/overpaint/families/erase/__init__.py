"""The weightless eraser: the family `erase`."""

from overpaint.core.work.workload import Workload
from overpaint.diffusion.family import FamilySpec
from overpaint.families.erase.options import EraseOptions

ERASE_FAMILY = FamilySpec(
    name="erase",
    implementation="overpaint.families.erase.erase:Erase",
    options=EraseOptions,
    accepts={"mask": "required", "copy_from": "optional", "not_from": "optional"},
    # A person's edit with texture of the same picture: no trained model, no element from elsewhere,
    # and more than the minor corrections of 'algorithmicallyEnhanced'.
    source_type="humanEdits",
    workload=Workload(native=None),
    in_srgb=False,  # it copies pixels, whatever they mean
)

FAMILIES = (ERASE_FAMILY,)
