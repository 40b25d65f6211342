"""Usage: .venv/bin/python valid_bill.py BILL. Prints what is wrong with a bill of materials, of CycloneDX 1.5.

By the schema as CycloneDX publishes it, which the package of tools/requirements-sbom.txt holds, and the names of SPDX.
"""

import json
import sys
from pathlib import Path

import cyclonedx.schema
import jsonschema_rs
from license_expression import get_spdx_licensing

SCHEMAS = Path(cyclonedx.schema.__file__).parent / "_res"


def schema(uri):
    """Return a schema that another one names; nothing is fetched."""
    return json.loads((SCHEMAS / uri.rpartition("/")[2].partition("#")[0]).read_text("utf-8"))


def main():
    bill = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    validator = jsonschema_rs.validator_for(schema("bom-1.5.SNAPSHOT.schema.json"), retriever=schema)
    faults = [f"{list(fault.instance_path)}: {fault.message}" for fault in validator.iter_errors(bill)]
    known = get_spdx_licensing()
    for one in [bill["metadata"]["component"], *bill["components"]]:
        for given in one["licenses"]:
            if "expression" in given:
                wrong = known.validate(given["expression"]).errors
                faults += [f"{one['bom-ref']}: {fault}" for fault in wrong]
            elif "id" not in given["license"]:
                faults.append(f"{one['bom-ref']}: {given} is no name of SPDX")
    sys.stdout.writelines(f"{fault}\n" for fault in faults)


main()
