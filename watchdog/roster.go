package watchdog

// rosterRow makes a row 2 KiB, a size that the allocator does not round up.
const rosterRow = 64

// roster is a list of guarded processes that grows by rows and moves nobody: an appended slice would leave its earlier copies behind,
// as much memory again, in a heap that is too small to be collected.
type roster struct {
	rows []*[rosterRow]guarded
	n    int
}

// at is the i-th, 0 ≤ i < n; the pointer holds until the next remove.
func (r *roster) at(i int) *guarded {
	return &r.rows[i/rosterRow][i%rosterRow]
}

func (r *roster) add(g guarded) {
	if r.n == len(r.rows)*rosterRow {
		r.rows = append(r.rows, new([rosterRow]guarded))
	}
	r.n++
	*r.at(r.n - 1) = g
}

// remove puts the last one in the i-th's place. Rows stay: who had a thousand workers will have them again.
func (r *roster) remove(i int) {
	r.n--
	*r.at(i) = *r.at(r.n)
	*r.at(r.n) = guarded{}
}

// all yields each with its index; none may be added or removed meanwhile.
func (r *roster) all(yield func(int, *guarded) bool) {
	for i := range r.n {
		if !yield(i, r.at(i)) {
			return
		}
	}
}
