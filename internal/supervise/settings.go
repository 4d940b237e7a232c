package supervise

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"holdfast/internal/plan"
)

// usersFile is the file name of a node's ACL file.
const usersFile = "users.acl"

// settingLimit is how long a redis node or Sentinel may take to accept its settings.
const settingLimit = 5 * time.Second

// changeSettings gives a redis node or Sentinel other settings while it runs. A node that does not
// run reads them from its files.
func (x *stepper) changeSettings(ctx context.Context, settings *plan.Settings) error {
	s, name := x.sup, x.step.Node
	x.touched = true
	to := x.to
	if !x.step.Late {
		to = withFormerUsers(x.to, x.from)
	}
	if err := s.putNode(to); err != nil {
		return err
	}
	if st, _ := s.statusBoard.snapshot().Node(name); st.PID != 0 {
		give := x.sendSettings
		if x.step.Late {
			give = x.dropUsers
		}
		if err := give(ctx, settings); err != nil {
			return err
		}
	}
	s.periodsOf(name).setAgain() // its ping period depends on down-after
	return s.send(ctx, name, command{action: actTake, spec: &x.to.process})
}

// withFormerUsers returns a node whose ACL file also has the users of its former version. The
// late part of a Set removes them. If a change is stopped before that part, the programs that
// need these users can go on, and the next change still finds the part to do.
func withFormerUsers(to, from nodePlan) nodePlan {
	former := map[string]string{}
	for _, f := range from.files {
		former[f.Path] = f.Content
	}
	to.files = slices.Clone(to.files)
	for i, f := range to.files {
		if filepath.Base(f.Path) == usersFile {
			to.files[i].Content = plan.KeepUsers(f.Content, former[f.Path])
		}
	}
	return to
}

// sendSettings sends the settings.
func (x *stepper) sendSettings(ctx context.Context, settings *plan.Settings) error {
	ctx, cancel := context.WithTimeout(ctx, settingLimit)
	defer cancel()
	s := x.sup
	admin := s.admin(x.step.Node)
	for _, u := range settings.Users {
		if err := admin.SetUser(ctx, u.Name, u.Rules...); err != nil {
			return err
		}
	}
	for _, setting := range settings.Config {
		var err error
		if x.to.process.Kind == plan.Sentinel {
			err = admin.SetSentinel(ctx, s.name(), setting.Name, setting.Value)
		} else {
			err = admin.Configure(ctx, map[string]string{setting.Name: setting.Value})
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", setting.Name, setting.Value, err)
		}
	}
	return nil
}

// dropUsers removes the users of programs that the stack no longer has.
func (x *stepper) dropUsers(ctx context.Context, settings *plan.Settings) error {
	ctx, cancel := context.WithTimeout(ctx, settingLimit)
	defer cancel()
	for _, user := range settings.Gone {
		if err := x.sup.admin(x.step.Node).DropUser(ctx, user); err != nil {
			return err
		}
	}
	return nil
}

// restoreSettings gives a node its former settings back.
func (x *stepper) restoreSettings(ctx context.Context) error {
	for _, c := range plan.Diff(plan.Host{Processes: []plan.Process{x.to.process}, Files: x.to.files}, plan.Host{Processes: []plan.Process{x.from.process}, Files: x.from.files}, nil) {
		if c.Settings == nil {
			continue
		}
		back := *x
		back.to, back.from, back.step.Late = x.from, x.to, false
		if err := back.changeSettings(ctx, c.Settings); err != nil || len(c.Settings.Gone) == 0 {
			return err
		}
		back.step.Late = true
		return back.changeSettings(ctx, c.Settings)
	}
	return nil
}
