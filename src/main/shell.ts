import { runShell } from '../shell/shell-thread.ts';

runShell();
