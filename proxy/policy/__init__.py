"""Who may dial what: number plan, user groups, account codes and the decision."""
