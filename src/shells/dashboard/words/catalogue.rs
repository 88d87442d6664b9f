//! The names of the texts, which every language has. Floor 4.
//!
//! **Invariant:** a catalogue without one of them does not compile.

/// Declares the texts of a catalogue.
macro_rules! words {
    ($($name:ident)*) => {
        /// The texts of one language.
        #[derive(Debug)]
        pub(in crate::shells::dashboard) struct Words {
            $(pub(in crate::shells::dashboard) $name: &'static str,)*
            /// Acts by the words of journals, where they are not the words themselves.
            pub(in crate::shells::dashboard) acts: &'static [(&'static str, &'static str)],
        }

        impl Words {
            /// Every text with its name.
            #[cfg(test)]
            pub(in crate::shells::dashboard) fn all(&self) -> Vec<(&'static str, &'static str)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

words! {
    daemon_up daemon_full daemon_waits daemon_unknown board_blind unanswered daemon_down daemon_down_hint watch_lost configuration_broken
    personal readonly readonly_short too_small board hosts history audit templates new ready running done_state held
    frozen cancelling ok skipped rolled_back rollback_failed failed timed_out cancelled lost kill_unconfirmed out_of_reach rejected
    expired stale low medium high now waits_for asked_until when_approved in_time for_time by more hosts_count heading_new heading_ready
    heading_running heading_done board_empty board_empty_hint board_empty_readonly col_state col_task col_by col_when
    col_hosts col_risk col_step col_progress col_host col_end col_last_line col_time col_address col_key
    col_environment col_tags col_now col_user col_way col_ended col_result col_took col_act col_detail col_template
    col_title mark_wait mark_asks mark_run reading unreadable withheld withheld_own withheld_output withheld_do own_script own_script_short batch_of batch_at batch_gate
    held_by eta more_steps why_fail nothing_fails map_head asks_for fold_open fold_closed live_log whoever_may needs
    plan_is log line_number new_bytes both_streams follow_on follow_off kept nothing_printed left_out_here
    this_machine key_missing key_missing_long key_known no_hosts no_configuration not_in_inventory tasks_here
    nothing_ended no_audit kind_text kind_int kind_tag diff_head diff_plans diff_hosts same_plan not_any_more
    same_outcome answer_writing answer_done no_requests sent queued taken refused done not_found again_to_quit
    not_begun mouse_on mouse_off range_begun nothing_to_compare copied no_task no_such_task nothing_waits
    nothing_to_retry nothing_to_skip nothing_begun which_step which_template template_gone unknown_word
    unknown_command will_reject will_withdraw will_cancel will_cancel_hosts will_hold will_release will_continue
    will_release_step will_retry will_retry_unfinished will_retry_hosts will_retry_from will_retry_twice wrong_state one_at_a_time
    not_a_host cancel_what cancel_all cancel_host cancel_batch queue_left key_previous_log key_next_log only_hosts
    approve_drifted again_to_leave lines_changed step_facts gate_waits batch_max_fail_is max_fail_is missed_is
    hint_log_step will_retry_unknown will_skip release_what release_task release_batch release_step release_step_on
    retry_what retry_failed retry_unfinished retry_host retry_from skip_what skip_on skip_all filter find keep
    hint_take hint_leave hint_complete hint_open hint_approve hint_reject hint_new hint_mark hint_filter hint_log
    hint_release hint_cancel hint_retry hint_zoom hint_follow hint_wrap hint_find hint_keep hint_stream hint_back
    hint_command hint_help hint_quit hint_do hint_field hint_section hint_scroll hint_copy_digest hint_submit
    hint_next_tab hint_ready hint_editor hint_choice hint_hosts hint_lines key_down key_up key_half_down key_half_up
    key_first key_last key_left key_right key_open key_back key_quit key_next_pane key_previous_pane key_find
    key_find_next key_find_previous key_keep key_failed_only key_command key_mark key_range key_clear_marks key_new
    key_approve key_reject key_withdraw key_release key_cancel key_retry key_retry_unknown key_skip key_follow
    key_wrap key_zoom key_order key_same_template key_diff key_copy key_export key_mouse key_requests key_help
    key_redraw key_suspend help_title help_search help_tasks help_task help_lists help_log help_everywhere
    help_commands approve_title approve_changed claims submitted_by unproved unproved_why vote_of runs_at runs_at_once_after runs_at_once
    not_after_is section_commands section_hosts section_params section_diff no_params against no_previous in_batches
    group_head handles undoes undoes_partial not_on as_account no_limit limit new_host changed_underneath not_new
    already_voted cannot_be_planned opens_in still_unread type_low type_medium type_high type_phrase no_paste
    not_the_phrase needs_reason reason_needed reason_optional form_title tab_fields tab_plan into_ready into_new
    form_ok problems_left raw_counts hosts_chosen wanted pick_hosts failed_only marked field_task_name field_script
    field_account field_hosts field_exec_time field_not_after field_batches field_interval field_gate field_max_fail
    field_details help_command_lines audit_cut refused_files at_limit nothing_refused col_file col_why was_skipped problem_in_help
    help_configuration hint_hold key_hold act_withdraw act_skip act_continue be_approved be_rejected be_withdrawn
    be_held be_released be_continued be_cancelled be_retried be_skipped not_voted cancelled_already not_held all_well
    exported nothing_matches none_failed the_daemon trigger_auto trigger_manual trigger_timed failure_stop
    failure_continue failure_rollback missed_run missed_hold missed_expire ending_exit ending_signal ending_silent
    ending_not_all ending_died ending_unreachable ending_not_sent problem_place problem_found map_each shut
    enter_in_paste sent_in_paste form_refused edit_words edit_not_found edit_not_started edit_ended edit_gone
    edit_not_text edit_too_long edit_empty edit_unchanged edit_file nothing_in_stream proved_same proved_other proved_root
    need_approval need_gate need_step need_unknown need_refused needs_nothing col_needed
}
