# Makes the files that npy_test.go reads: python3 make.py, with NumPy 2.
import numpy as np

x = np.arange(24, dtype=np.float64).reshape(2, 3, 4) / 8
np.save("c_f8.npy", x)
np.save("c_f4.npy", x.astype("<f4"))
np.save("fortran_f4.npy", np.asfortranarray(x.astype("<f4")))
np.save("fortran_big_f8.npy", np.asfortranarray(x.astype(">f8")))
for version in [(2, 0), (3, 0)]:
    with open(f"v{version[0]}_f4.npy", "wb") as f:
        np.lib.format.write_array(f, x.astype("<f4"), version=version)
np.save("scalar.npy", np.float32(0.5))
np.save("empty.npy", np.zeros((3, 0), "<f4"))
np.save("int64.npy", np.arange(6).reshape(2, 3))
np.save("object.npy", np.array([None, 1], dtype=object), allow_pickle=True)
np.save("record.npy", np.zeros(2, dtype=[("a", "<f4"), ("b", "<f4")]))
np.savez("archive.npz", x=x)
