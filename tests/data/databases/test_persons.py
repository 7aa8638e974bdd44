"""People who are in several databases stay on one side of a split over their stores."""

from itertools import chain, count

import numpy as np

from xecg.data.databases import get_database
from xecg.data.prepare import prepare
from xecg.data.splits import Split, split_stores

from .files import marks, write_record

CUT = "Produced by xform from record {}, beginning at 0"
# Records that are of one person, in the layout of each database, and some of others.
SAME = [
    {"ptbxl/records100/00000/00001_lr", "xfusemap/records/HR00282"},  # patient 437
    {"xfusemap/records/HR00009", "ptbxl/records100/00000/00009_lr"},  # an ECG without a patient
    {"svdb/866", "afpdb/p07", "afpdb/p08", "afpdb/p08c"},
    {"svdb/824", "afpdb/p25", "qtdb/sel824"},
    {"svdb/803", "qtdb/sel803"},
    {"mitdb/201", "mitdb/202", "qtdb/sel202"},
    {"aftdb/learning-set/s03", "aftdb/learning-set/t03"},
]
OTHERS = {"aftdb/test-set-a/a03", "afpdb/n07", "afpdb/t07", "svdb/867", "xfusemap/records/E0866"}


def write_all(root):
    phases = count(0.1, 0.2)
    for record in sorted(set().union(OTHERS, *SAME)):
        path = root / record
        cut = [CUT.format(path.name[3:])] if "qtdb" in record else []
        dx = ["Dx: 426783006"] if "xfusemap" in record else []
        write_record(
            path.parent, path.name, comments=cut + dx, phase=next(phases),
            atr=marks((100, "N")), q1c=marks((100, "N")),
        )  # fmt: skip
    (root / "ptbxl" / "ptbxl_database.csv").write_text(
        "ecg_id,patient_id,age,sex,scp_codes,filename_lr\n"
        "1,437.0,,,{},records100/00000/00001_lr\n9,,,,{},records100/00000/00009_lr\n"
    )
    (root / "ptbxl" / "xfusemap_patients.csv").write_text("record,patient_id\nHR00282,437.0\n")


def test_a_person_of_several_databases_is_in_one_part(tmp_path):
    write_all(tmp_path)
    names = ("ptbxl", "xfusemap", "svdb", "afpdb", "qtdb", "mitdb", "aftdb")
    stores = []
    for name in names:
        database = get_database("challenge" if name == "xfusemap" else name, tmp_path / name)
        stores.append(prepare(database, tmp_path / "stores" / name))
    tables = [(store.info.identity, store.index) for store in stores]
    found = [f"{n}/{r}" for n, (_, i) in zip(names, tables, strict=True) for r in i["record"]]
    assert set(found) == OTHERS.union(*SAME)
    apart = 0
    for seed in range(20):
        split = split_stores(tables, [Split(0.4, 0.3, 0.3, seed=seed)] * len(tables))
        sizes = [len(table) for _, table in tables]
        parts = [np.empty(n, object) for n in sizes]
        for part_of, rows in zip(parts, split, strict=True):
            for part, chosen in rows.items():
                part_of[chosen] = part
        part = dict(zip(found, chain(*parts), strict=True))
        assert all(len({part[record] for record in person}) == 1 for person in SAME)
        apart += len({part["aftdb/test-set-a/a03"], part["aftdb/learning-set/s03"]}) - 1
    assert apart  # not all people are one
