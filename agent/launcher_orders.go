package agent

// Orders between agent and launcher; PROTOCOL.md §2 gives the fields their meaning.
type (
	initOrder struct {
		Op         string   `json:"op"`
		RunID      string   `json:"run_id"`
		Pool       string   `json:"pool"`
		Generation int      `json:"generation"`
		Parent     int      `json:"parent"`
		Start      string   `json:"start"`
		Preload    []string `json:"preload"`
		Path       []string `json:"path"`
		Workdir    string   `json:"workdir"`
		Nice       *int     `json:"nice"`
	}
	spawnOrder struct {
		Op      string            `json:"op"`
		Worker  string            `json:"worker"`
		Index   int               `json:"index"`
		GraceUS int64             `json:"grace_us"`
		Env     map[string]string `json:"env"`
		NoFile  int               `json:"nofile"`
		Core    int64             `json:"core"`
	}
	reapOrder struct {
		Op     string `json:"op"`
		Keeper int    `json:"keeper"`
	}
	plainOrder struct {
		Op string `json:"op"`
	}
	// launcherReport is everything that a launcher may say; Op tells which fields are set.
	launcherReport struct {
		Op         string     `json:"op"`
		PID        int        `json:"pid"`
		PPID       int        `json:"ppid"`
		Version    string     `json:"version"`
		Python     string     `json:"python"`
		Executable string     `json:"executable"`
		Module     string     `json:"module"`
		Start      string     `json:"start"`
		Refusal    *refusal   `json:"refusal"`
		Worker     string     `json:"worker"`
		Keeper     int        `json:"keeper"`
		Status     int        `json:"status"`
		Killed     []int      `json:"killed"`
		Left       []survivor `json:"left"`
		Traceback  string     `json:"traceback"`
		Reason     string     `json:"reason"`
		Message    string     `json:"message"`
	}
	refusal struct {
		Reason  string `json:"reason"`
		Message string `json:"message"`
	}
)
