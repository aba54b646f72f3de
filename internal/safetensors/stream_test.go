package safetensors

import (
	"path/filepath"
	"slices"
	"testing"
)

// TestReadFloat32 reads a tensor larger than the buffer, so that a wrong step between parts would show.
func TestReadFloat32(t *testing.T) {
	want := make([]float32, streamBytes/4+1234)
	for i := range want {
		want[i] = float32(i) * 0.5
	}
	path := filepath.Join(t.TempDir(), "a.safetensors")
	tensors := []Tensor{FromFloat32("a", []int{3}, []float32{1, 2, 3}), FromFloat32("w", []int{len(want)}, want)}
	if err := Write(path, tensors, nil); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]float32, len(want))
	if err := f.ReadFloat32("w", got); err != nil || !slices.Equal(got, want) {
		t.Fatalf("differs (%v)", err)
	}
	if f.ReadFloat32("w", got[1:]) == nil || f.ReadFloat32("b", got) == nil {
		t.Fatal("a wrong size or name was accepted")
	}
}
