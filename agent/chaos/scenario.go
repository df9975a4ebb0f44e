package chaos

// Scenario is one row of the catalogue: something that happens to an agent's tree, and what has to hold then.
type Scenario struct {
	Name   string // lower case, words joined by "-"; unique and stable, because results are compared by it
	What   string // what is done, one line
	Expect string // what has to hold, one line
	// Rounds is how often a plain verify runs it, Long how often `verify --long` does (0: as Rounds). With 0 and a Long it is
	// left to the long form.
	Rounds, Long int
	// Waits says that it mostly waits and measures no time to empty: its rounds run beside the other rows.
	Waits  bool
	Alone  bool               // it harms what runs beside it, so nothing does
	Cannot func(*Host) string // why it cannot run here, with what it needs; "" when it can; nil: it always can
	Beyond string             // out of contract, and why; then Run is nil
	Run    func(*Round)
	// Check judges what the rounds have counted together; nil: nothing to judge.
	Check func(counts map[string]int) error
}

// rounds is how often a form of verify runs it.
func (s *Scenario) rounds(long bool) int {
	if long && s.Long > 0 {
		return s.Long
	}
	return s.Rounds
}
